/** The subspace gradient (the paper's equations 4-8): the twin of edge_sdk/zo/subspace.py. */

const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);

/**
 * Singular values and right singular vectors of a few rows, largest first, by one-sided Jacobi rotations (Hestenes):
 * rows are turned in pairs until all are orthogonal.
 */
function rightSingularVectors(rows) {
  for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
    turned = false;
    for (let p = 0; p < rows.length; p++) {
      for (let q = p + 1; q < rows.length; q++) {
        const alpha = dot(rows[p], rows[p]),
          beta = dot(rows[q], rows[q]),
          gamma = dot(rows[p], rows[q]);
        if (Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) continue;
        turned = true;
        const zeta = (beta - alpha) / (2 * gamma);
        const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta)),
          c = 1 / Math.hypot(1, t),
          s = c * t;
        const [x, y] = [rows[p], rows[q]];
        rows[p] = x.map((value, i) => c * value - s * y[i]);
        rows[q] = y.map((value, i) => s * x[i] + c * value);
      }
    }
  }
  const found = rows.map((row) => [Math.sqrt(dot(row, row)), row]).sort(([a], [b]) => b - a);
  return {
    singular: found.map(([length]) => length),
    components: found.map(([length, row]) => row.map((x) => x / length)),
  };
}

/**
 * Directions that hold the last `threshold` share of the variance of a history (tau arrays of d numbers).
 * @returns {Float32Array[]} orthonormal
 */
export function lowVarianceDirections(history, threshold) {
  const tau = history.length,
    rows = history.map((row) => Float64Array.from(row));
  for (let i = 0; i < rows[0].length; i++) {
    // equation 4
    const mean = rows.reduce((sum, row) => sum + row[i], 0) / tau;
    const std = Math.sqrt(rows.reduce((sum, row) => sum + (row[i] - mean) ** 2, 0) / tau);
    for (const row of rows) row[i] = (row[i] - mean) / (std > 0 ? std : 1);
  }
  const { singular, components } = rightSingularVectors(rows); // equation 5
  const total = singular.reduce((sum, s) => sum + s ** 2, 0);
  if (total === 0) return [];
  const rank = singular.filter((s) => s > singular[0] * 1e-10).length;
  let share = 0,
    kept = rank;
  for (let i = 0; i < singular.length; i++) {
    // equation 6
    share += singular[i] ** 2 / total;
    if (share > 1 - threshold) {
      kept = i + 1;
      break;
    }
  }
  return components.slice(kept, rank).map((row) => Float32Array.from(row)); // equation 7
}

/** Collects token values and, every `buffer` of them, renews the directions to project out. */
export class Subspace {
  constructor(buffer, threshold) {
    this.buffer = buffer;
    this.threshold = threshold;
    this.history = [];
    this.removed = [];
  }

  /** g (I - P^T P), equation 8. */
  project(gradient) {
    const shares = this.removed.map((direction) => dot(gradient, direction));
    return gradient.map((value, i) =>
      this.removed.reduce((left, direction, r) => left - shares[r] * direction[i], value),
    );
  }

  /** Record the token after an update. */
  push(theta) {
    if (!this.buffer) return;
    this.history.push(Float32Array.from(theta));
    if (this.history.length === this.buffer) {
      this.removed = lowVarianceDirections(this.history, this.threshold);
      this.history = [];
    }
  }
}
