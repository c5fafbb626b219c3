/** Graphs of fixed sizes, as bundles for one processor have them: the twin of edge_sdk/runtime/rows.py. */

import { BundleError } from './manifest.js';

const LEARNED = 'learned'; // the one input that is not a row each

/**
 * Run a graph of fixed sizes on any number of rows. The last call is filled with copies of the last row, whose results
 * are dropped; `learned` is filled with zeros.
 *
 * @param run inputs -> outputs, one call
 * @param inputs name -> {data, shape}
 * @param described of the manifest
 * @throws {BundleError} there are more vectors than `learned` holds
 */
export async function inCalls(run, inputs, described) {
  const names = Object.keys(described.inputs).filter((name) => name !== LEARNED),
    rows = described.inputs[names[0]].shape[0],
    count = inputs[names[0]].shape[0];
  const fixed = described.inputs[LEARNED] ? { [LEARNED]: filled(inputs[LEARNED], described.inputs[LEARNED].shape) } : {};
  const out = {};
  for (let start = 0; start < count; start += rows) {
    const chosen = Array.from({ length: rows }, (_, i) => Math.min(start + i, count - 1));
    const found = await run({ ...Object.fromEntries(names.map((name) => [name, rowsOf(inputs[name], chosen)])), ...fixed });
    for (const [name, { data, shape }] of Object.entries(found)) {
      const size = data.length / rows;
      out[name] ??= { data: new data.constructor(count * size), shape: [count, ...shape.slice(1)] };
      out[name].data.set(data.subarray(0, Math.min(rows, count - start) * size), start * size);
    }
  }
  return out;
}

function rowsOf({ data, shape }, chosen) {
  const size = shape.slice(1).reduce((a, b) => a * b, 1);
  return { data: chosen.flatMap((row) => Array.from(data.slice(row * size, (row + 1) * size))), shape: [chosen.length, ...shape.slice(1)] };
}

function filled({ data, shape }, wanted) {
  if (shape[0] > wanted[0])
    throw new BundleError(
      `a call has ${shape[0]} vectors, and the bundle's graphs hold ${wanted[0]}; use fewer words, or export a bundle with a larger --num_vectors`,
    );
  const out = new Float32Array(wanted.reduce((a, b) => a * b, 1));
  out.set(data);
  return { data: out, shape: wanted };
}
