// What the writer of a prompt should know: sdlearn.text.prompt_notes in JavaScript. The words and
// the sentences come from Python, with {word} where the word stands.

const quote = (word) => (word.includes("'") ? `"${word}"` : `'${word}'`);
const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu) ?? [];

/** Letters in common, found as Python's difflib does (Ratcliff and Obershelp 1988). */
function common(a, b) {
  let [best, i, j] = [0, 0, 0];
  for (let x = 0; x < a.length; x++) {
    for (let y = 0; y < b.length; y++) {
      let n = 0;
      while (x + n < a.length && y + n < b.length && a[x + n] === b[y + n]) n++;
      if (n > best) [best, i, j] = [n, x, y];
    }
  }
  return best && best + common(a.slice(0, i), b.slice(0, j))
    + common(a.slice(i + best), b.slice(j + best));
}

/** The known word that begins like this one and is nearly the same, or "". */
function nearest(word, known) {
  if (word.length < 4) return '';
  const cutoff = word.length > 4 ? 0.8 : 0.85;
  const scores = known.map((other) => [(2 * common(other, word)) / (other.length + word.length),
    other]).filter(([score, other]) => score >= cutoff && other[0] === word[0]);
  return scores.sort(([a, x], [b, y]) => b - a || (x < y ? 1 : -1))[0]?.[1] ?? '';
}

const ENDS = [['ies', 'y'], ['ves', 'f'], ['es', ''], ['s', ''], ['es', 'e']];
/** The known word that this one is the plural of, or "". */
const singular = (word, known) =>
  ENDS.filter(([end]) => word.endsWith(end) && word.length > end.length + 1)
    .map(([end, other]) => word.slice(0, -end.length) + other)
    .find((stem) => known.includes(stem)) ?? '';

function ofWord(word, { known, negations, numbers }) {
  if (known.includes(word)) return null;
  if (negations.includes(word) || /n['’]t$/.test(word)) return { kind: 'negation', word };
  if (numbers.includes(word) || /^\p{Nd}+$/u.test(word)) return { kind: 'number', word };
  const one = singular(word, known);
  if (one) return { kind: 'plural', word, suggestion: one };
  return { kind: 'unknown', word, suggestion: nearest(word, known) };
}

/** @returns {{kind: string, word: string, suggestion?: string}[]} every note, in Python's order */
export function find(prompt, tokenizer, data) {
  if (!prompt.trim()) return [{ kind: 'empty', word: '' }];
  const pieces = tokenizer.pieces(prompt);
  const room = tokenizer.length - 2;
  const lost = pieces.slice(room).join('').replaceAll('</w>', ' ').trim().slice(0, 60);
  const long = lost ? [{ kind: 'long', word: lost, count: pieces.length }] : [];
  const found = [];
  let text = prompt.slice(0, 2000);
  const weight = text.match(/\([^()]*:\s*[\d.]+\s*\)|\(\(|\[\[/);
  if (weight) {
    found.push({ kind: 'weight', word: weight[0] });
    text = text.replace(/:\s*[\d.]+\s*\)/g, ')');
  }
  const words = wordsOf(text);
  found.push(...[...new Set(words)].map((word) => ofWord(word, data)).filter(Boolean));
  const among = (list) => words.filter((word) =>
    list.includes(word) || list.includes(singular(word, data.known)));
  const things = among(data.kinds);
  if (things.length > 2) found.push({ kind: 'third', word: things[2] });
  const [mixed] = text.toLowerCase().match(data.mixed) ?? [];
  if (mixed) found.push({ kind: 'mixed', word: mixed });
  const symbols = [...new Set(text)].filter((c) =>
    !/[\p{L}\p{N}]/u.test(c) && !data.punctuation.includes(c));
  if (!found.length && !among(data.told).length) {
    found.push({ kind: 'nothing', word: text.trim().slice(0, 60) });
  } else if (symbols.length) {
    found.push({ kind: 'symbol', word: symbols.slice(0, 12).join('') });
  }
  return [...long, ...found];
}

/** One sentence for each kind of note, as the notebook says them. @returns {string[]} */
export function notes(prompt, tokenizer, data) {
  const found = find(prompt, tokenizer, data);
  return [...new Set(found.map(({ kind }) => kind))].map((kind) => {
    const all = found.filter((note) => note.kind === kind);
    const { word, suggestion = '', count } = all[0];
    const hint = (note) => (note.suggestion
      ? fill(data.sentences.hint, { suggestion: quote(note.suggestion) }) : '');
    const hints = all.slice(0, 8).map((note) => quote(note.word) + hint(note)).join(', ');
    const sentence = data.sentences[kind === 'unknown' && all.length > 1 ? 'unknowns' : kind];
    return fill(sentence, { word: quote(word), suggestion: quote(suggestion), count, hints });
  });
}
