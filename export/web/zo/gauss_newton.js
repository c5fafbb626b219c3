/**
 * Gauss-Newton from forward passes alone, by differences of residuals along fixed directions: the twin of
 * edge_sdk/zo/gauss_newton.py, which explains it.
 */

import { draw, evaluateResiduals } from './draws.js';

const dot = (x, y) => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
  return sum;
};

/**
 * The directions for a token of K vectors: direction j moves vector j mod K along principal direction j div K.
 * @param principal R Float32Array of D, orthogonal
 * @param least how many a step takes
 * @returns {Float32Array[]} R K of K D
 */
export function directions(principal, least, numVectors) {
  const count = numVectors * principal.length;
  if (least > count) throw new Error(`zo_samples is ${least}; there are ${count} directions to choose from`);
  return Array.from({ length: count }, (_, j) => {
    const width = principal[0].length,
      out = new Float32Array(numVectors * width);
    out.set(principal[Math.floor(j / numVectors)], (j % numVectors) * width);
    return out;
  });
}

/**
 * Measure the residuals at theta (Float32Array of K D) and a little way along every direction: the loss of this step's
 * draws as a quadratic of the directions' coefficients.
 * @returns {Promise<{slope: Float64Array, curvature: Float64Array[], losses: number[], loss: number, forwards: number}>}
 */
export async function linearize(objective, theta, basis, config, seed, step, maxBatch = 64) {
  const n = basis.length,
    { train_batch_size: batch } = config,
    mu = Math.fround(config.zo_mu);
  const rows = [theta, ...basis.map((e) => theta.map((value, i) => value + Math.fround(mu * e[i])))];
  const slope = new Float64Array(n),
    curvature = basis.map(() => new Float64Array(n)),
    losses = [];
  let base = 0;
  for (const one of draw(objective, seed, step, batch, config.timestep_range)) {
    const residuals = await evaluateResiduals(objective, rows, Array(n + 1).fill(one), maxBatch);
    const [here, ...there] = residuals.map((row) => Float64Array.from(row));
    const jacobian = there.map((row) => row.map((value, i) => (value - here[i]) / mu));
    const share = 2 / (here.length * batch);
    for (let i = 0; i < n; i++) {
      slope[i] += share * dot(jacobian[i], here);
      for (let j = 0; j <= i; j++) {
        curvature[i][j] += share * dot(jacobian[i], jacobian[j]);
        curvature[j][i] = curvature[i][j];
      }
    }
    losses.push(...[here, ...there].map((row) => dot(row, row) / row.length));
    base += losses[losses.length - n - 1] / batch;
  }
  return { slope, curvature, losses, loss: base, forwards: (n + 1) * batch };
}

/**
 * The sum of all draws' quadratic models at the current token; later draws weigh more (`memory`). Where there are more
 * directions than a step takes, half of a step's are those that promise most, the others those that waited longest.
 */
export class GaussNewton {
  /** @param basis R Float32Array of K D, orthogonal */
  constructor(config, basis) {
    this.config = config;
    this.basis = basis;
    this.slope = new Float64Array(basis.length);
    this.curvature = basis.map(() => new Float64Array(basis.length));
    this.seen = basis.map(() => 0); // the linearization that each direction was last in, from 1
    this.count = 0; // linearizations so far
  }

  /** The directions of the next step, ascending. */
  choose() {
    const { zo_samples: n, damping: share } = this.config,
      all = this.basis.map((_, i) => i);
    let kept = [];
    if (this.seen.every((count) => count > 0)) {
      const least = (share * all.reduce((trace, i) => trace + this.curvature[i][i], 0)) / all.length;
      const gain = all.map((i) => this.slope[i] ** 2 / Math.max(this.curvature[i][i] + least, 1e-300));
      kept = all.toSorted((i, j) => gain[j] - gain[i]).slice(0, n >> 1);
    }
    const waiting = all.toSorted((i, j) => this.seen[i] - this.seen[j]).filter((i) => !kept.includes(i));
    return [...kept, ...waiting].slice(0, n).sort((i, j) => i - j);
  }

  /** Take up the linearization in the directions of `choose`; the next token, Float32Array. */
  update(theta, found) {
    const { damping: share, memory, trust_radius: radius } = this.config,
      chosen = this.choose(),
      n = chosen.length;
    this.count += 1;
    const weight = this.count ** memory;
    chosen.forEach((i, a) => {
      this.slope[i] += weight * found.slope[a];
      chosen.forEach((j, b) => (this.curvature[i][j] += weight * found.curvature[a][b]));
      this.seen[i] = this.count;
    });
    const damping = (share * chosen.reduce((trace, i) => trace + this.curvature[i][i], 0)) / n;
    if (!(damping > 0)) return theta; // the token makes no difference to these draws
    const damped = chosen.map((i) => Float64Array.from(chosen, (j) => this.curvature[i][j] + (i === j ? damping : 0)));
    const move = solved(damped, Float64Array.from(chosen, (i) => this.slope[i])).map((value) => -value);
    const shrink = Math.min(1, radius / Math.max(Math.sqrt(dot(move, move)), 1e-300));
    return theta.map((value, k) => chosen.reduce((sum, i, a) => sum + shrink * move[a] * this.basis[i][k], value));
  }

  /** Move the models' origin from one token to another, which differ by a combination of the directions. */
  carry(before, after) {
    const difference = Float64Array.from(after, (value, k) => value - before[k]);
    const along = Float64Array.from(this.basis, (e) => dot(e, difference) / dot(e, e));
    this.slope = this.slope.map((value, i) => value + dot(this.curvature[i], along));
  }
}

/** x of A x = b for a symmetric, positive definite A (rows of Float64Array), by Cholesky's A = L L^T. */
function solved(a, b) {
  const n = b.length,
    l = a.map(() => new Float64Array(n)),
    x = Float64Array.from(b);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let left = a[i][j];
      for (let k = 0; k < j; k++) left -= l[i][k] * l[j][k];
      l[i][j] = i === j ? Math.sqrt(left) : left / l[j][j];
    }
  }
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= l[i][k] * x[k];
    x[i] /= l[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= l[k][i] * x[k];
    x[i] /= l[i][i];
  }
  return x;
}
