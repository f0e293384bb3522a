/** Asked, seen, missing: what a sentence names beside what the judge reads in the picture. */

const best = (chances) => chances.reduce((at, x, i) => (x > chances[at] ? i : at), 0);

/** The judge's chances -> {things: [{kind, colour, position, sure}], place, time, sure}. */
export function read(chances, world) {
  const places = world.position.length;
  const row = (name, i) => {
    const size = chances[name].length / places;
    return chances[name].slice(i * size, (i + 1) * size);
  };
  const things = world.position.flatMap((position, i) => {
    const [kind, colour] = [row('kind', i), row('colour', i)];
    const [k, c] = [best(kind), best(colour)]; // the last of each is "nothing"
    return k < world.kind.length && c < world.colour.length
      ? [{ kind: world.kind[k], colour: world.colour[c], position, sure: kind[k] * colour[c] }]
      : [];
  });
  const [p, t] = [best(chances.place), best(chances.time)];
  const sure = Math.min(chances.place[p], chances.time[t], ...things.map((x) => x.sure));
  return { things, place: world.place[p], time: world.time[t], sure };
}

/** What a sentence asks for, as far as it is said in the world's words. */
export function asked(prompt, world) {
  const words = prompt.toLowerCase().match(/\p{L}+/gu) ?? [];
  const things = words.flatMap((kind, i) => {
    if (!world.kind.includes(kind)) return [];
    const colour = world.colour.includes(words[i - 1]) ? words[i - 1] : null;
    const after = words.slice(i + 1, i + 4);
    const position = /^(on|in) the/.test(after.join(' ')) && world.position.includes(after[2])
      ? after[2] : null;
    return [{ kind, colour, position }];
  });
  return {
    things,
    place: world.place.find((word) => words.includes(word)) ?? null,
    time: world.time.find((word) => words.includes(word)) ?? null,
  };
}

const name = ({ colour, kind, position }) =>
  [colour, kind, position && (position === 'middle' ? 'in the middle' : `on the ${position}`)]
    .filter(Boolean).join(' ');

/** Lines {text, seen} for what was asked, and what is there besides. */
export function compare(wanted, found) {
  const left = [...found.things];
  const lines = wanted.things.map((thing) => {
    const at = left.findIndex((other) => ['kind', 'colour', 'position'].every((key) =>
      thing[key] === null || thing[key] === other[key]));
    if (at >= 0) left.splice(at, 1);
    return { text: name(thing), seen: at >= 0 };
  });
  for (const key of ['place', 'time']) {
    if (wanted[key]) lines.push({ text: wanted[key], seen: wanted[key] === found[key] });
  }
  const besides = left.map(name);
  if (!wanted.place) besides.push(found.place);
  if (!wanted.time) besides.push(found.time);
  return { lines, besides };
}
