/** Prompts as rows of token ids, with placeholders, and what a bundle says of learned vectors. */

import { Tokenizer, finder, fold } from './tokenizer.js';

/** The text side of a bundle. */
export class Text {
  constructor(manifest, tokenizers) {
    this.manifest = manifest;
    this.tokenizers = tokenizers;
    this.widths = manifest.embedding.map(({ width }) => width);
    this.width = this.widths.reduce((sum, width) => sum + width, 0); // D
  }

  static async of(bundle) {
    const { manifest } = bundle;
    return new Text(manifest, await Promise.all(manifest.tokens.map(({ folder }) => Tokenizer.of(bundle, folder))));
  }

  /** A row of input_ids from ids around the placeholder, a list an encoder; K vectors from number `first` on. */
  row(before, after, count, first = 0) {
    return this.manifest.tokens.flatMap((_, i) => {
      const start = this.manifest.embedding[i].vocab_size + first;
      return this.#filled(i, [...before[i], ...Array.from({ length: count }, (_, k) => start + k), ...after[i]]);
    });
  }

  /**
   * A row of input_ids for a prompt.
   * @param placeholders [word, count of its vectors] each; the vectors follow one another in this order. A prompt may
   *   have a word in other letters, see `fold`
   * @throws {Error} the prompt is so long that a placeholder would be cut off
   */
  prompt(text, placeholders = []) {
    const pieces = piecesOf(text.normalize('NFC'), placeholders.map(([word]) => word));
    return this.tokenizers.flatMap((tokenizer, i) => {
      let next = this.manifest.embedding[i].vocab_size;
      const ids = new Map();
      for (const [word, count] of placeholders) {
        const first = next;
        ids.set(fold(word), Array.from({ length: count }, (_, k) => first + k));
        next += count;
      }
      return this.#filled(i, pieces.flatMap((piece) => ids.get(fold(piece)) ?? tokenizer.words(piece)));
    });
  }

  /** Ids between the marks of beginning and end, cut and filled up as encoder i takes them. */
  #filled(i, inside) {
    const { bos, eos, pad, length } = this.manifest.tokens[i],
      room = length - 2;
    if (inside.slice(room).some((id) => id >= this.manifest.embedding[i].vocab_size)) {
      throw new Error(`the prompt is ${inside.length} tokens long; the model takes ${room}, use a shorter one`);
    }
    const row = [bos, ...inside.slice(0, room), eos];
    return [...row, ...Array(length - row.length).fill(pad)];
  }

  /** Throws, in one line, if the placeholder cannot be one. */
  checkPlaceholder(placeholder) {
    if (!placeholder || /\s/.test(placeholder))
      throw new Error(`the name ${JSON.stringify(placeholder)} must be one word without spaces`);
    if (this.tokenizers.some((tokenizer) => tokenizer.knows(placeholder)))
      throw new Error(`the name ${placeholder} is already a word of the model; choose another, such as <subject>`);
  }

  /**
   * The vectors of a word that the model knows as one token, once per vector: Float32Array of K D.
   * @throws {Error} it is not one token
   */
  async initial(bundle, word, count) {
    const parts = await Promise.all(
      this.tokenizers.map(async (tokenizer, i) => {
        const ids = tokenizer.words(word);
        if (ids.length !== 1) {
          throw new Error(
            `the word ${JSON.stringify(word)} makes ${ids.length} tokens; give one it knows, such as person or dog`,
          );
        }
        const { file, offset, dtype, shape } = this.manifest.embedding[i].table;
        const { data: bytes } = (await bundle.weights()).find(({ path }) => path === file),
          size = dtype === 'float16' ? 2 : 4;
        const row = bytes.slice(offset + ids[0] * shape[1] * size, offset + (ids[0] + 1) * shape[1] * size);
        return dtype === 'float16'
          ? Array.from(new Uint16Array(row.buffer), half)
          : Array.from(new Float32Array(row.buffer));
      }),
    );
    return Float32Array.from(Array(count).fill(parts.flat()).flat());
  }

  /** What each coordinate of the optimizer's variable is multiplied with: Float32Array of D. */
  get scale() {
    return Float32Array.from(this.manifest.embedding.flatMap(({ width, scale }) => Array(width).fill(scale)));
  }

  get normRange() {
    return [0, 1].map((end) => this.manifest.embedding.map(({ norm_range: range }) => range[end]));
  }
}

/** Those of some words that a text has, in any letters; a word inside of a longer one does not count. */
export function wordsIn(text, words) {
  const pieces = new Set(piecesOf(text.normalize('NFC'), words).map(fold));
  return words.filter((word) => pieces.has(fold(word)));
}

/** A composed text cut before and after words, the longest of which is looked for first. */
function piecesOf(text, words) {
  const found = finder(words.map(fold)),
    pieces = [];
  let end = 0;
  for (const { 0: match, index } of found ? fold(text).matchAll(found) : []) {
    pieces.push(text.slice(end, index), text.slice(index, index + match.length));
    end = index + match.length;
  }
  return [...pieces, text.slice(end)];
}

/** A float16's bits as a number. */
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
