/** The golden files that all twins share, as ../../../tests/golden/README.md describes them. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const GOLDEN = process.env.EDGE_GOLDEN ?? fileURLToPath(new URL('../../../tests/golden/', import.meta.url));

export const bytesOf = (name) => new Uint8Array(readFileSync(`${GOLDEN}/${name}`));

/** A file; seeds as BigInt, because one is larger than a number holds. */
export function read(name) {
  const text = readFileSync(`${GOLDEN}/${name}`, 'utf8').replace(/"seed": (\d+)/g, '"seed": "u64:$1"');
  const seed = (value) => (String(value).startsWith('u64:') ? BigInt(value.slice(4)) : value);
  return JSON.parse(text, (key, value) => (key === 'seed' ? seed(value) : value));
}

export function close(values, wanted, bound, what) {
  assert.equal(values.length, wanted.length, what);
  for (const [i, value] of wanted.entries())
    assert.ok(Math.abs(values[i] - value) <= bound, `${what}: number ${i} is ${values[i]} and not ${value}`);
}

/** Equal float32 numbers, or neighbours. */
export function neighbours(values, wanted, what) {
  assert.equal(values.length, wanted.length, what);
  for (const [i, value] of wanted.entries()) {
    const [a, b] = new Int32Array(Float32Array.of(values[i], value).buffer);
    assert.ok(Math.abs(a - b) <= 1, `${what}: number ${i} is ${values[i]} and not ${value}`);
  }
}

const sizes = ({ images, prompts, latents_shape: latentsShape }) => ({
  numImages: images,
  numPrompts: prompts,
  latentsShape,
});

class Quadratic {
  constructor(run) {
    const [curvature, target] = [run.curvature.flat(), run.target.flat()];
    Object.assign(this, sizes(run), { curvature, target, tilt: run.tilt, broken: run.broken_images ?? [] });
  }

  async losses(embeddings, draws) {
    return embeddings.map((theta, b) => {
      if (this.broken.includes(draws[b].image)) return NaN;
      const { noise } = draws[b],
        token = Array.from(theta);
      const quadratic = token.reduce((sum, x, i) => sum + 0.5 * this.curvature[i] * (x - this.target[i]) ** 2, 0);
      const total = token.reduce((sum, x) => sum + x, 0);
      return quadratic + noise.reduce((sum, x) => sum + x, 0) / noise.length + this.tilt * noise[0] * total;
    });
  }
}

class LeastSquares {
  constructor(run) {
    Object.assign(this, sizes(run), { matrix: run.matrix, target: run.target.flat(), bend: run.bend });
    Object.assign(this, { spread: run.spread ?? run.noise, broken: run.broken_images ?? [] });
  }

  async residuals(embeddings, draws) {
    return embeddings.map((theta, b) => {
      const bad = this.broken.includes(draws[b].image) ? NaN : 0;
      const gap = Array.from(theta, (x, i) => x - this.target[i]);
      return this.matrix.map(
        (row, m) =>
          bad + row.reduce((sum, x, i) => sum + x * (gap[i] + this.bend * gap[i] ** 2), 0) + this.spread * draws[b].noise[m],
      );
    });
  }
}

export const objectiveOf = (run) => (run.curvature ? new Quadratic(run) : new LeastSquares(run));
