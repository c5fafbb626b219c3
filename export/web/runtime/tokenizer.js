/** CLIP's byte-pair encoding from a bundle's tokenizer folder: the twin of edge_sdk/diffusion/tokenizer_folder.py. */

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
const BEGIN = '<|startoftext|>',
  END = '<|endoftext|>',
  LAST = '</w>';
/** The special tokens by name, in the order in which they are added, and what they are where a folder does not say. */
const NAMES = { bos_token: BEGIN, eos_token: END, unk_token: END, sep_token: null, pad_token: END, cls_token: null, mask_token: null };

/** A byte as the visible letter that GPT-2's vocabularies have for it. */
const LETTERS = (() => {
  const plain = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++));
})();

/** A text as CLIP prepares it, whatever letters stand beside one another. */
const prepared = (text) =>
  Array.from(text.normalize('NFC').replace(/\s+/g, ' '), (letter) => letter.toLowerCase()).join('');

/** A word as words are compared: composed, and in lower case as far as a letter stays one letter. */
export const fold = (word) =>
  Array.from(word.normalize('NFC'), (letter) => {
    const lower = letter.toLowerCase();
    return lower.length === letter.length ? lower : letter;
  }).join('');

/** A regular expression that finds any of some words, the longest first; null for none. */
export function finder(words) {
  const sorted = [...words].sort((a, b) => b.length - a.length);
  return sorted.length ? new RegExp(sorted.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|'), 'gu') : null;
}

export class Tokenizer {
  /**
   * @param vocabulary token -> id
   * @param merges pairs of tokens, the most frequent first
   * @param added tokens beside the vocabulary, in the order in which they are added: {content, special, normalized,
   *   single_word}
   */
  constructor(vocabulary, merges, added = [BEGIN, END].map(special)) {
    this.vocabulary = new Map(Object.entries(vocabulary));
    this.ranks = new Map(merges.map((pair, rank) => [pair.join(' '), rank]));
    this.added = new Map(); // content -> id
    let last = this.vocabulary.size - 1;
    for (const { content } of added) {
      const id = this.vocabulary.get(content) ?? last + 1;
      this.added.set(content, id);
      last = Math.max(last, id);
    }
    const flagged = added.map((token) => ({ normalized: !token.special, ...token }));
    this.stages = [false, true].map((normalized) => {
      const known = new Map();
      for (const token of flagged.filter((one) => one.normalized === normalized))
        known.set(normalized ? prepared(token.content) : token.content, token);
      return { known, found: finder(known.keys()) };
    });
    this.folded = new Set(added.map(({ content }) => fold(content)));
  }

  /** From a folder of a bundle: tokenizer.json, or else vocab.json and merges.txt. */
  static async of(bundle, folder) {
    const read = async (name) => (bundle.has(`${folder}/${name}`) ? bundle.json(`${folder}/${name}`) : null);
    const whole = await read('tokenizer.json');
    let vocabulary, merges;
    if (whole) {
      vocabulary = whole.model.vocab;
      merges = whole.model.merges.map((pair) => (Array.isArray(pair) ? pair : pair.split(' ')));
    } else {
      const text = new TextDecoder().decode(await bundle.bytes(`${folder}/merges.txt`));
      const lines = text.split(/\r?\n/).filter((line) => line.trim() && !line.startsWith('#version'));
      vocabulary = await bundle.json(`${folder}/vocab.json`);
      merges = lines.map((line) => line.trim().split(/\s+/));
    }
    const files = ['tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'];
    return new Tokenizer(vocabulary, merges, addedTokens(...(await Promise.all(files.map(read))), whole?.added_tokens));
  }

  /** Token ids of a text without the marks of its beginning and end. */
  words(text) {
    const [raw, normalized] = this.stages;
    return this.#around(raw, text, (piece) =>
      this.#around(normalized, prepared(piece), (rest) => (rest.match(WORDS) ?? []).flatMap((word) => this.#word(word))),
    );
  }

  /** Whether a word is a token of its own, of the vocabulary or one that was added to it, in any letters. */
  knows(word) {
    const ids = this.words(word);
    return this.folded.has(fold(word)) || (ids.length === 1 && ids[0] !== this.added.get(END));
  }

  /** Ids of a text that is cut at the added tokens of a stage; what lies between is read by `inner`. */
  #around({ known, found }, text, inner) {
    if (!found) return inner(text);
    const ids = [];
    let end = 0;
    for (const match of text.matchAll(found)) {
      const token = known.get(match[0]),
        after = match.index + match[0].length;
      const inside = /[\p{L}\p{N}\p{M}_]$/u.test(text.slice(0, match.index)) || /^[\p{L}\p{N}\p{M}_]/u.test(text.slice(after));
      if (token.single_word && inside) continue;
      ids.push(...inner(text.slice(end, match.index)), ...this.#vectors(token.content));
      end = after;
    }
    return [...ids, ...inner(text.slice(end))];
  }

  /** The ids of a word that diffusers has saved as `word`, `word_1`, `word_2`, ..., one a vector. */
  #vectors(word) {
    const ids = [this.added.get(word)];
    while (this.added.has(`${word}_${ids.length}`)) ids.push(this.added.get(`${word}_${ids.length}`));
    return ids;
  }

  #word(word) {
    const letters = Array.from(new TextEncoder().encode(word), (byte) => LETTERS[byte]);
    letters[letters.length - 1] += LAST;
    let tokens = letters.map((letter) => (this.vocabulary.has(letter) ? letter : END));
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

/** A text or an object of a file as a token. */
const token = (word) => (typeof word === 'string' ? { content: word } : word);
const special = (word) => ({ ...token(word), special: true });

/** The tokens that a folder adds to its vocabulary, in their order; see SpecialTokens in Python. */
function addedTokens(config, map, beside, inside = []) {
  const listed = config?.added_tokens_decoder,
    named = { ...NAMES },
    further = [];
  for (const entries of listed ? [config] : [config ?? {}, map ?? {}]) {
    for (const name of Object.keys(NAMES)) if (name in entries) named[name] = entries[name];
    const words = entries.extra_special_tokens ?? entries.additional_special_tokens ?? [];
    further.push(...Object.values(words).map(special));
  }
  const names = Object.values(named).filter((word) => word !== null).map(special),
    specials = new Set([...names, ...further].map(({ content }) => content));
  const byNumber = new Map(Object.entries(listed ?? {}).map(([number, one]) => [Number(number), one]));
  if (!listed) {
    for (const [content, number] of Object.entries(beside ?? {}))
      byNumber.set(number, { content, special: specials.has(content), normalized: !specials.has(content) });
    for (const one of inside) byNumber.set(one.id, one);
  }
  const tokens = new Map();
  for (const [, one] of [...byNumber].sort(([a], [b]) => a - b)) tokens.set(one.content, one);
  for (const { content } of names) if (tokens.has(content)) tokens.set(content, special(tokens.get(content)));
  for (const one of [...names, ...further]) if (!tokens.has(one.content)) tokens.set(one.content, one);
  return [...tokens.values()];
}
