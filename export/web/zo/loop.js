/** The whole method: perturb, measure, estimate, denoise, step; the twin of edge_sdk/zo/loop.py. */

import { estimate } from './estimator.js';
import { GaussNewton, linearize } from './gauss_newton.js';
import { Adam } from './optimizer.js';
import { Subspace } from './subspace.js';

export class NonFiniteLossError extends Error {}

/** All that a run is; changed only when a step is complete. */
export class State {
  /**
   * @param embedding the initial token, K D numbers
   * @param basis the directions of gauss_newton.js, at least zo_samples Float32Array of K D
   */
  constructor(config, seed, embedding, basis = []) {
    if (config.optimizer === 'gauss_newton' && basis.length < config.zo_samples) {
      throw new Error(`gauss_newton needs ${config.zo_samples} directions or more; it has ${basis.length}`);
    }
    this.config = config;
    this.seed = seed;
    this.embedding = Float32Array.from(embedding);
    this.adam = new Adam(config, embedding.length);
    this.subspace = new Subspace(config.subspace_buffer, config.subspace_threshold);
    this.newton = new GaussNewton(config, basis);
    this.averageSum = new Float64Array(embedding.length);
    this.averageCount = 0;
    this.step = 0;
    this.forwards = 0;
    this.seconds = 0;
    this.badSteps = 0; // in a row
  }

  /** The token to use: the tail average once there is one, else the current token. */
  get result() {
    if (!this.averageCount) return this.embedding.slice();
    return Float32Array.from(this.averageSum, (sum) => sum / this.averageCount);
  }
}

/**
 * Run until max_train_steps; may be left after any step.
 *
 * @param normRange [lows, highs] of the Euclidean norm of each part of a vector
 * @param parts widths of the parts of a vector, one a text encoder
 * @param clock seconds
 */
export async function* run(
  objective,
  state,
  { normRange, parts, maxBatch = 16, clock = () => performance.now() / 1000 },
) {
  const { config } = state,
    pace = [];
  while (state.step < config.max_train_steps) {
    const started = clock(),
      removed = state.subspace.removed.length;
    const measured = await measure(objective, state, maxBatch);
    const skipped = !measured.losses.every(Number.isFinite);
    let clamped = false;
    if (skipped) {
      state.badSteps += 1;
    } else {
      clamped = advance(state, measured, normRange, parts);
      state.badSteps = 0;
      if (state.step + 1 > config.average_from * config.max_train_steps) {
        state.averageSum = state.averageSum.map((sum, i) => sum + state.embedding[i]);
        state.averageCount += 1;
      }
    }
    state.step += 1;
    state.forwards += measured.forwards;
    const elapsed = clock() - started;
    state.seconds += elapsed;
    pace.push(elapsed);
    const recent = pace.slice(-20).sort((a, b) => a - b);
    yield {
      step: state.step,
      loss: skipped ? NaN : measured.loss,
      forwards: state.forwards,
      seconds: state.seconds,
      eta: (config.max_train_steps - state.step) * recent[recent.length >> 1],
      removed,
      skipped,
      clamped,
    };
    if (state.badSteps >= config.max_bad_steps) {
      throw new NonFiniteLossError(
        `the loss was not finite ${state.badSteps} steps in a row, up to step ${state.step}`,
      );
    }
  }
}

function measure(objective, state, maxBatch) {
  const { config, embedding, seed, step } = state;
  if (config.optimizer === 'gauss_newton') {
    const chosen = state.newton.choose().map((i) => state.newton.basis[i]);
    return linearize(objective, embedding, chosen, config, seed, step, maxBatch);
  }
  return estimate(objective, embedding, config, seed, step, state.subspace.removed.length, maxBatch);
}

/** Take a step; says whether the token's norm was brought back. */
function advance(state, measured, normRange, parts) {
  const before = state.embedding,
    newton = state.config.optimizer === 'gauss_newton';
  const token = newton
    ? state.newton.update(before, measured)
    : state.adam.update(before, state.subspace.project(measured.gradient), state.step);
  const [embedding, clamped] = clampNorms(token, normRange, parts);
  state.embedding = embedding;
  if (newton) state.newton.carry(before, embedding);
  state.subspace.push(embedding);
  return clamped;
}

/** Rescale every part of a vector whose norm is out of range; says whether one was. */
export function clampNorms(token, [lows, highs], parts) {
  const out = token.slice();
  let clamped = false;
  for (let start = 0; start < token.length;) {
    for (const [part, width] of parts.entries()) {
      const piece = token.subarray(start, start + width);
      const norm = Math.sqrt(piece.reduce((sum, value) => sum + value * value, 0));
      const wanted = Math.min(Math.max(norm, lows[part]), highs[part]);
      if (wanted !== norm) {
        clamped = true;
        out.set(
          piece.map((value) => value * (wanted / Math.max(norm, 1e-12))),
          start,
        );
      }
      start += width;
    }
  }
  return [out, clamped];
}
