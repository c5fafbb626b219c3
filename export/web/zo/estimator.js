/** The gradient estimate from forward passes alone: the twin of edge_sdk/zo/estimator.py. */

import { draw, evaluateRows } from './draws.js';
import { Stream, normals } from './noise.js';

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** theta + mu e in float32, as numpy computes it. */
function moved(theta, mu, e) {
  return theta.map((value, i) => value + Math.fround(mu * e[i]));
}

/**
 * Estimate the gradient of the expected loss at theta (Float32Array of K D).
 *
 * Forward: g = 1/n sum_i [L(theta + mu e_i) - L(theta)] / mu * e_i (the paper's equation 3).
 * Central: g = 1/n sum_i [L(theta + mu e_i) - L(theta - mu e_i)] / (2 mu) * e_i.
 *
 * @param removed how many directions the projection takes away, for the optional normalization
 * @returns {Promise<{gradient: Float64Array, losses: number[], loss: number, forwards: number}>}
 */
export async function estimate(objective, theta, config, seed, step, removed = 0, maxBatch = 64) {
  const { zo_samples: n, train_batch_size: batch } = config,
    size = theta.length;
  const mu = Math.fround(config.zo_mu);
  const central = config.zo_difference === 'central',
    shared = config.zo_draws === 'shared';
  const all = normals(seed, Stream.PERTURBATION, step, n * size);
  const e = Array.from({ length: n }, (_, i) => all.subarray(i * size, (i + 1) * size));
  const drawn = draw(objective, seed, step, shared ? batch : n * batch, config.timestep_range);
  const perDirection = shared ? e.flatMap(() => drawn) : drawn; // (n * batch), direction by direction

  const side = (sign) => e.flatMap((direction) => Array(batch).fill(moved(theta, sign * mu, direction)));
  const otherDraws = central ? perDirection : drawn;
  const others = central ? side(-1) : otherDraws.map(() => theta);
  const rows = [...perDirection, ...otherDraws];
  const losses = await evaluateRows(objective, [...side(1), ...others], rows, maxBatch);

  const above = losses.slice(0, n * batch),
    below = losses.slice(n * batch);
  const base = (i, j) => below[(i * batch + j) % below.length]; // a shared base serves every direction
  const gradient = new Float64Array(size);
  for (let i = 0; i < n; i++) {
    const slope =
      mean(above.slice(i * batch, (i + 1) * batch).map((loss, j) => loss - base(i, j))) / mu / (central ? 2 : 1);
    for (let k = 0; k < size; k++) gradient[k] += (slope * e[i][k]) / n;
  }
  if (config.zo_normalize) {
    const length = Math.sqrt((size - removed + n - 1) / n);
    for (let k = 0; k < size; k++) gradient[k] /= length;
  }
  const middle = central ? above.map((loss, i) => (loss + below[i]) / 2) : below;
  return { gradient, losses, loss: mean(middle), forwards: rows.length };
}
