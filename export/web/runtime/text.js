/** Prompts as token ids: CLIP's byte-pair encoding from a bundle's tokenizer files, and rows with a placeholder. */

const WORDS = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
const UNKNOWN = '<|endoftext|>',
  LAST = '</w>';

/** A byte as the visible letter that GPT-2's vocabularies have for it. */
const LETTERS = (() => {
  const plain = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++));
})();

export class Tokenizer {
  /**
   * @param vocabulary token -> id
   * @param merges pairs of tokens, the most frequent first
   */
  constructor(vocabulary, merges) {
    this.vocabulary = new Map(Object.entries(vocabulary));
    this.ranks = new Map(merges.map((pair, rank) => [pair.join(' '), rank]));
  }

  /** From a folder of a bundle: tokenizer.json, or vocab.json and merges.txt. */
  static async of(bundle, folder) {
    if (bundle.has(`${folder}/vocab.json`)) {
      const text = new TextDecoder().decode(await bundle.bytes(`${folder}/merges.txt`));
      const lines = text.split(/\r?\n/).filter((line) => line.trim() && !line.startsWith('#version'));
      return new Tokenizer(
        await bundle.json(`${folder}/vocab.json`),
        lines.map((line) => line.trim().split(/\s+/)),
      );
    }
    const { model } = await bundle.json(`${folder}/tokenizer.json`);
    return new Tokenizer(
      model.vocab,
      model.merges.map((pair) => (Array.isArray(pair) ? pair : pair.split(' '))),
    );
  }

  /** Token ids of a text without the marks of its beginning and end. */
  words(text) {
    const plain = text.normalize('NFC').replace(/\s+/g, ' ');
    const lower = Array.from(plain, (letter) => letter.toLowerCase()).join(''); // whatever letters stand beside
    const found = lower.match(WORDS) ?? [];
    return found.flatMap((word) => this.#word(word));
  }

  #word(word) {
    if (/^<\|(start|end)oftext\|>$/.test(word)) return [this.vocabulary.get(word)];
    const letters = Array.from(new TextEncoder().encode(word), (byte) => LETTERS[byte]);
    letters[letters.length - 1] += LAST;
    let tokens = letters.map((letter) => (this.vocabulary.has(letter) ? letter : UNKNOWN));
    for (;;) {
      let best = -1,
        least = Infinity;
      for (let i = 0; i + 1 < tokens.length; i++) {
        const rank = this.ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Infinity;
        if (rank < least) [best, least] = [i, rank];
      }
      if (best < 0) return tokens.map((token) => this.vocabulary.get(token));
      tokens = [...tokens.slice(0, best), tokens[best] + tokens[best + 1], ...tokens.slice(best + 2)];
    }
  }
}

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
   * @param placeholders [word, count of its vectors] each; the vectors follow one another in this order
   * @throws {Error} the prompt is so long that a placeholder would be cut off
   */
  prompt(text, placeholders = []) {
    const words = placeholders.map(([word]) => word).sort((a, b) => b.length - a.length); // the longest first
    const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    const pieces = words.length ? text.split(new RegExp(`(${escaped.join('|')})`)) : [text];
    return this.tokenizers.flatMap((tokenizer, i) => {
      let next = this.manifest.embedding[i].vocab_size;
      const ids = new Map();
      for (const [word, count] of placeholders) {
        const first = next;
        ids.set(word, Array.from({ length: count }, (_, k) => first + k));
        next += count;
      }
      return this.#filled(i, pieces.flatMap((piece) => ids.get(piece) ?? tokenizer.words(piece)));
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
    const known = this.tokenizers.some((tokenizer, i) => {
      const ids = tokenizer.words(placeholder);
      return ids.length === 1 && ids[0] !== this.manifest.tokens[i].eos;
    });
    if (known)
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

/** A float16's bits as a number. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
