/** Running a bundle's golden vectors: the twin of the reader in ../../golden.py. */

import { normals } from '../zo/noise.js';

/** An input of golden.json as {data, shape}. */
function valueOf({ shape, dtype, values, normals: source, scale = 1, offset = 0, clip }) {
  if (values) return { shape, data: dtype === 'int64' ? values.map(BigInt) : values };
  const count = shape.reduce((product, side) => product * side, 1);
  const data = normals(source.seed, source.stream, source.step, count).map(
    (x) => Math.fround(x * Math.fround(scale)) + offset,
  );
  return { shape, data: clip ? data.map((x) => Math.min(Math.max(x, clip[0]), clip[1])) : data };
}

/** max |found - wanted| / max |wanted| over the outputs of a case; infinite for another shape or what is not finite. */
function worstDifference(outputs, found) {
  let worst = 0;
  for (const [name, { shape, values, stride = 1 }] of Object.entries(outputs)) {
    const { data, shape: got } = found[name];
    if (String(got) !== String(shape) || !data.every(Number.isFinite)) return Infinity;
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
    for (const [i, value] of values.entries()) worst = Math.max(worst, Math.abs(data[i * stride] - value) / largest);
  }
  return worst;
}

/**
 * The worst relative difference of each graph, and milliseconds of its fastest call.
 * @param bundle an opened `Bundle`
 * @param repeat calls of each case
 */
export async function verify(bundle, repeat = 1) {
  const { cases } = await bundle.json('golden.json');
  const differences = {},
    bounds = {},
    milliseconds = {};
  for (const name of Object.keys(bundle.manifest.graphs)) {
    const graph = await bundle.graph(name);
    for (const one of cases.filter((each) => each.graph === name)) {
      const inputs = Object.fromEntries(Object.entries(one.inputs).map(([key, tensor]) => [key, valueOf(tensor)]));
      for (let i = 0; i < repeat; i++) {
        const started = performance.now();
        const found = await graph.run(inputs);
        milliseconds[name] = Math.min(milliseconds[name] ?? Infinity, performance.now() - started);
        differences[name] = Math.max(differences[name] ?? 0, worstDifference(one.outputs, found));
      }
      bounds[name] = one.bounds['onnxruntime-web'];
    }
    await graph.release();
  }
  return { differences, bounds, milliseconds };
}
