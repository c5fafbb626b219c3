/** Checks the optimizer here against the golden vectors that all its twins share: node check_golden.mjs FOLDER */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { directions } from './zo/gauss_newton.js';
import { State, run } from './zo/loop.js';
import { integers, normals, philox4x32 } from './zo/noise.js';

const folder = process.argv[2];
const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8').replace(/"seed": (\d+)/g, '"seed": "$1"'));

/** How many float32 numbers lie between two of one sign. */
function steps(x, y) {
  const [a, b] = new Int32Array(Float32Array.of(x, y).buffer);
  return Math.abs(a - b);
}

/** The quadratic of the trajectory: its definition is in the file. */
class Quadratic {
  constructor({ curvature, target, tilt, images, prompts, latents_shape: latentsShape }) {
    Object.assign(this, { curvature: curvature[0], target: target[0], tilt, latentsShape });
    Object.assign(this, { numImages: images, numPrompts: prompts, embeddingShape: [1, target[0].length] });
  }

  async losses(embeddings, draws) {
    return embeddings.map((theta, b) => {
      const { noise } = draws[b];
      const quadratic = theta.reduce((sum, x, i) => sum + 0.5 * this.curvature[i] * (x - this.target[i]) ** 2, 0);
      const total = theta.reduce((sum, x) => sum + x, 0);
      return quadratic + noise.reduce((sum, x) => sum + x, 0) / noise.length + this.tilt * noise[0] * total;
    });
  }
}

/** The least squares of Gauss-Newton's runs: their definition is in the file. */
class LeastSquares {
  constructor({ matrix, target, noise, bend, images, prompts, latents_shape: latentsShape }) {
    Object.assign(this, { matrix, target: target.flat(), noise, bend, latentsShape });
    Object.assign(this, { numImages: images, numPrompts: prompts, embeddingShape: [target.length, target[0].length] });
  }

  async residuals(embeddings, draws) {
    return embeddings.map((theta, b) => {
      const gap = Array.from(theta, (x, i) => x - this.target[i]);
      return this.matrix.map(
        (row, m) =>
          row.reduce((sum, x, i) => sum + x * (gap[i] + this.bend * gap[i] ** 2), 0) + this.noise * draws[b].noise[m],
      );
    });
  }
}

const noise = read('noise.json'),
  trajectory = read('trajectory.json');
const differing = (wanted, found) => wanted.filter((value, i) => value !== found[i]).length;
const report = {
  philox: 0,
  integers: 0,
  normals_not_equal: 0,
  normals_worst_steps: 0,
  trajectory_worst: 0,
  newton_worst: 0,
  vectors: 0,
};
for (const { counter, key, output } of noise.philox4x32_10)
  report.philox += differing(output, philox4x32(counter, key));
for (const { seed, stream, step, n, values } of noise.integers) {
  report.integers += differing(values, integers(BigInt(seed), stream, step, values.length, n));
}
for (const { seed, stream, step, values } of noise.normals) {
  const found = normals(BigInt(seed), stream, step, values.length);
  report.normals_not_equal += differing(values, found);
  for (const [i, value] of values.entries()) {
    report.normals_worst_steps = Math.max(report.normals_worst_steps, steps(value, found[i]));
    if (normals(BigInt(seed), stream, step, 1, i)[0] !== found[i]) report.normals_not_equal += 1; // begun in the middle
  }
}
const objective = new Quadratic(trajectory),
  { config, tokens } = trajectory;
const state = new State(config, BigInt(trajectory.seed), new Float32Array(tokens[0][0].length));
const free = { normRange: [[0], [Infinity]], parts: objective.embeddingShape.slice(1) };
for await (const { step } of run(objective, state, free)) {
  for (const [i, wanted] of tokens[step - 1][0].entries()) {
    report.trajectory_worst = Math.max(report.trajectory_worst, Math.abs(state.embedding[i] - wanted));
  }
}
report.vectors = noise.philox4x32_10.length + noise.integers.length + noise.normals.length + tokens.length;
for (const one of trajectory.gauss_newton.runs) {
  const problem = new LeastSquares(one),
    [count, width] = problem.embeddingShape;
  const basis = directions(
    one.principal.map((row) => Float32Array.from(row)),
    one.config.zo_samples,
    count,
  );
  const state = new State(one.config, BigInt(one.seed), new Float32Array(count * width), basis);
  const bounds = { normRange: one.norm_range.map((bound) => [bound]), parts: [width], maxBatch: 4 };
  const compared = (found, wanted) => {
    for (const [i, value] of wanted.entries())
      report.newton_worst = Math.max(report.newton_worst, Math.abs(found[i] - value));
  };
  for await (const { step, loss, clamped } of run(problem, state, bounds)) {
    compared(state.embedding, one.tokens[step - 1].flat());
    compared([loss, clamped], [one.losses[step - 1], one.clamped[step - 1]]);
    report.vectors += 1;
  }
  compared(state.result, one.result.flat());
}
console.log(JSON.stringify(report));
