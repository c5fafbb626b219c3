/** learned_embeds.safetensors as edge_sdk/embedding.py writes and reads it, and stock diffusers reads it. */

import { half } from '../runtime/text.js';

const MAX_BYTES = 64 * 2 ** 20,
  A1111_KEY = 'emb_params'; // of web UIs, which take the name of the file for the word

/** A header with its keys sorted and letters beyond ASCII as they are, as in edge_sdk/system/files.py. */
const sorted = (entries) => Object.fromEntries(Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : 1)));

/**
 * The file's bytes.
 *
 * @param token the placeholder
 * @param vectors Float32Array of K D
 * @param widths of the parts of a vector, one a text encoder: one tensor named by the token, or SDXL's two
 * @param metadata strings; where the embedding comes from, never anything about the photos
 * @throws {Error} a value is not finite
 */
export function learnedEmbeds(token, vectors, widths, metadata) {
  if (!vectors.every(Number.isFinite)) throw new Error('the embedding holds a number that is not finite');
  const width = widths.reduce((sum, part) => sum + part, 0),
    count = vectors.length / width;
  const names = widths.length > 1 ? ['clip_l', 'clip_g'] : [token];
  const parts = names.map((name, i) => ({
    name,
    width: widths[i],
    column: widths.slice(0, i).reduce((sum, part) => sum + part, 0),
  }));
  parts.sort((a, b) => (a.name < b.name ? -1 : 1));
  const tensors = {},
    data = new Float32Array(vectors.length);
  let start = 0; // in numbers
  for (const { name, width: part, column } of parts) {
    const end = start + count * part;
    for (let k = 0; k < count; k++)
      data.set(vectors.subarray(k * width + column, k * width + column + part), start + k * part);
    tensors[name] = { dtype: 'F32', shape: [count, part], data_offsets: [4 * start, 4 * end] };
    start = end;
  }
  const about = sorted({ format: 'pt', ...metadata, placeholder_token: token });
  const text = new TextEncoder().encode(JSON.stringify(sorted({ __metadata__: about, ...tensors })));
  const length = Math.ceil(text.length / 8) * 8,
    out = new Uint8Array(8 + length + data.byteLength).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(text, 8);
  const view = new DataView(out.buffer, 8 + length);
  data.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return out;
}

/** Numbers of a tensor's bytes, by its dtype. */
const READ = {
  F32: (view) => Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true)),
  F64: (view) => Array.from({ length: view.byteLength / 8 }, (_, i) => view.getFloat64(8 * i, true)),
  F16: (view) => Array.from({ length: view.byteLength / 2 }, (_, i) => half(view.getUint16(2 * i, true))),
  BF16(view) {
    const bits = Uint32Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true) << 16);
    return Array.from(new Float32Array(bits.buffer));
  },
};

/**
 * An embedding of a file: of one tensor, of a web UI's form, or of SDXL's two.
 *
 * @param name of the file
 * @param widths of the parts of a vector that the model takes
 * @returns {{token: string, vectors: Float32Array}} K D numbers, both encoders' parts side by side
 * @throws {Error} one line: not such a file, or of another width
 */
export function readEmbeds(bytes, name, widths) {
  const refuse = (why) => {
    throw new Error(`${name} ${why}`);
  };
  if (!/\.safetensors$/i.test(name)) refuse('is no .safetensors file');
  const length = bytes.length >= 8 ? Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)) : Infinity;
  if (bytes.length > MAX_BYTES || length > bytes.length - 8) refuse('is no embedding: it is cut short or too large');
  let about, entries;
  try {
    ({ __metadata__: about = {}, ...entries } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + length))));
  } catch {
    refuse('is no safetensors file');
  }
  const keys = 'clip_l' in entries && 'clip_g' in entries ? ['clip_l', 'clip_g'] : Object.keys(entries);
  if (keys.length !== Object.keys(entries).length || keys.length !== widths.length)
    refuse(`holds ${Object.keys(entries).length} tensors; an embedding for this model has ${widths.length}`);
  const parts = keys.map((key, i) => {
    const { dtype, shape, data_offsets: [start, end] = [] } = entries[key] ?? {};
    const [count, width] = shape?.length === 1 ? [1, shape[0]] : (shape ?? []);
    if (width !== widths[i]) refuse(`is ${width} wide and this model takes ${widths[i]}; use it with its own model`);
    const first = bytes.byteOffset + 8 + length + start;
    if (!(dtype in READ) || !(0 <= start && start <= end && 8 + length + end <= bytes.length)) refuse('holds no floats');
    const values = READ[dtype](new DataView(bytes.buffer, first, end - start));
    if (!values.length || values.length !== count * width || !values.every(Number.isFinite)) refuse('holds other than finite numbers');
    return { values, count, width };
  });
  const [{ count }] = parts;
  if (parts.some((part) => part.count !== count)) refuse('holds unequal numbers of vectors');
  const rows = Array.from({ length: count }, (_, k) => parts.flatMap(({ values, width }) => values.slice(k * width, (k + 1) * width)));
  const key = keys.length > 1 ? (about.placeholder_token ?? A1111_KEY) : keys[0];
  const token = key === A1111_KEY ? name.replace(/\.safetensors$/i, '') : key;
  if (!token.trim()) refuse('names no word');
  return { token, vectors: Float32Array.from(rows.flat()) };
}
