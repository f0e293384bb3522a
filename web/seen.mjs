/** Asked, seen, missing, as sdlearn/judge.py reads a prompt and a picture. */

const best = (chances) => chances.reduce((at, x, i) => (x > chances[at] ? i : at), 0);

/** The judge's chances -> {things: [{kind, colour, position}], place, time, sure: 0 to 1}. */
export function readPicture(chances, world) {
  const row = (name, i) => {
    const size = chances[name].length / world.position.length;
    return chances[name].slice(i * size, (i + 1) * size);
  };
  const sure = [];
  const things = world.position.flatMap((position, i) => {
    const [kind, colour] = [row('kind', i), row('colour', i)];
    const [k, c] = [best(kind), best(colour)]; // the last of each is "nothing"
    if (k >= world.kind.length || c >= world.colour.length) return [];
    sure.push(kind[k] * colour[c]);
    return [{ kind: world.kind[k], colour: world.colour[c], position }];
  });
  const [p, t] = [best(chances.place), best(chances.time)];
  return { things, place: world.place[p], time: world.time[t],
    sure: Math.min(...sure, chances.place[p], chances.time[t]) };
}

/** What a prompt asks for, by the word lists of the world; other words are passed over. */
export function readPrompt(prompt, world) {
  const words = prompt.toLowerCase().match(/\p{L}+/gu) ?? [];
  const things = [];
  let [colour, position, place, time, opened] = [null, null, null, null, false];
  for (const [i, word] of words.entries()) {
    if (world.colour.includes(word)) {
      colour = word;
    } else if (world.place.includes(word)) {
      [place, colour] = [word, null]; // "in a green meadow": the color is the meadow's
    } else if (world.time.includes(word)) {
      time = word;
    } else if (word === 'and') {
      opened = true;
    } else if (world.kind.includes(word)) {
      things.push({ kind: word, colour, position });
      [colour, position, opened] = [null, null, false];
    } else if (world.position.includes(word)) {
      const last = opened ? null : things.at(-1);
      if (last && last.position === null) {
        last.position = word;
        const across = { left: 'right', right: 'left' }[word];
        if (words[i + 1] === 'of' && across) position = across;
      } else {
        position = word;
      }
    }
  }
  return { things, place, time };
}

/** A thing in words: "a red cat on the left". */
export function say({ kind, colour, position }, phrases) {
  const noun = colour ? `${colour} ${kind}` : kind;
  const where = position ? ` ${phrases.position[position]}` : '';
  return `${'aeiou'.includes(noun[0]) ? 'an' : 'a'} ${noun}${where}`;
}

/** {wishes: [{text, there}], extra}: the fullest wishes choose their things first. */
export function compare(asked, seen, phrases) {
  const left = [...seen.things];
  const open = ({ colour, position }) => (colour === null) + (position === null);
  const there = new Set();
  for (const wish of [...asked.things].sort((a, b) => open(a) - open(b))) {
    const at = left.findIndex((thing) => wish.kind === thing.kind
      && [null, thing.colour].includes(wish.colour)
      && [null, thing.position].includes(wish.position));
    if (at < 0) continue;
    left.splice(at, 1);
    there.add(wish);
  }
  const wishes = asked.things.map((wish) => ({ text: say(wish, phrases), there: there.has(wish) }));
  for (const key of ['place', 'time'].filter((name) => asked[name])) {
    wishes.push({ text: phrases[key][asked[key]], there: asked[key] === seen[key] });
  }
  return { wishes, extra: left.map((thing) => say(thing, phrases)) };
}
