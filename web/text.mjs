/**
 * Chapter 04 in JavaScript: a prompt into token ids, equal to the Python tokenizer's.
 * Byte-pair encoding as CLIP uses it (Sennrich et al. 2016; Radford et al. 2021).
 */

const SPECIAL = /(<\|startoftext\|>|<\|endoftext\|>)/;
// \p{White_Space} and not \s, which takes U+FEFF too and misses U+0085
const PIECES = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;

/** Letter by letter: lower-casing a whole word would change a final sigma. @param {string} text */
export const lower = (text) => [...text].map((c) => c.toLowerCase()).join('');

const printable = (b) => (b > 32 && b < 127) || (b > 160 && b < 173) || b > 173;
const others = [...Array(256).keys()].filter((b) => !printable(b));
/** The letter that stands for each byte in the vocabulary. */
const SYMBOLS = [...Array(256).keys()].map((b) =>
  String.fromCharCode(printable(b) ? b : 256 + others.indexOf(b)));

export class Tokenizer {
  /** @param {{model: {vocab: Object, merges: Array}}} file tokenizer.json @param {number} length */
  constructor(file, length) {
    this.length = length;
    this.vocab = new Map(Object.entries(file.model.vocab));
    this.ranks = new Map(file.model.merges.map((pair, i) => [[pair].flat().join(' '), i]));
  }

  /** The pieces of a prompt, without start and end. @param {string} prompt @returns {string[]} */
  pieces(prompt) {
    const cut = (text) =>
      lower(text.normalize('NFC').replace(/\p{White_Space}+/gu, ' ')).match(PIECES) ?? [];
    return prompt.split(SPECIAL).flatMap((part, i) =>
      (i % 2 ? [part] : cut(part).flatMap((word) => this.merge(word))));
  }

  /** One word by the merges, most urgent first. @param {string} word */
  merge(word) {
    const parts = [...new TextEncoder().encode(word)].map((b) => SYMBOLS[b]);
    parts[parts.length - 1] += '</w>';
    for (;;) {
      const ranks = parts.slice(1).map((right, i) => this.ranks.get(`${parts[i]} ${right}`));
      const best = Math.min(...ranks.map((rank) => rank ?? Infinity));
      if (best === Infinity) return parts;
      const at = ranks.indexOf(best);
      const [left, right] = [parts[at], parts[at + 1]];
      for (let i = 0; i < parts.length - 1; i++) {
        if (parts[i] === left && parts[i + 1] === right) parts.splice(i, 2, left + right);
      }
    }
  }

  /** Token ids of the model's whole length: start, pieces, end, padding. @param {string} prompt */
  encode(prompt) {
    const [start, end] = ['<|startoftext|>', '<|endoftext|>'].map((t) => this.vocab.get(t));
    const pieces = this.pieces(prompt).map((p) => this.vocab.get(p)).slice(0, this.length - 2);
    const ids = [start, ...pieces, end];
    return [...ids, ...Array(this.length - ids.length).fill(end)];
  }

  /**
   * The words of a prompt with the places of their tokens, for the words under the text field.
   * @param {string} prompt @returns {{text: string, tokens: number[], known: boolean}[]}
   */
  words(prompt) {
    let at = 1; // token 0 is the start
    return prompt.split(/(\p{White_Space}+)/u).filter((p) => p.trim()).flatMap((word) =>
      (word.match(/[\p{L}\p{N}\p{M}'’-]+|[^\p{L}\p{N}\p{M}'’-]+/gu) ?? []).map((text) => {
        const count = this.pieces(text).length;
        const tokens = Array.from({ length: count }, (_, i) => at + i)
          .filter((i) => i < this.length - 1);
        at += count;
        return { text, tokens, known: count === 1 };
      }));
  }
}
