/** learned_embeds.safetensors as edge_sdk/embedding.py writes it and stock diffusers reads it. */

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
