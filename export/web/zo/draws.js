/**
 * What the optimizer sees of a model, and how draws are drawn: the twin of edge_sdk/zo/draws.py.
 *
 * An objective has numImages, numPrompts, latentsShape [C, h, w], embeddingShape [K, D] and
 * `async losses(embeddings, draws)`: B embeddings (Float32Array of K D) on B draws -> B numbers, and
 * `async residuals(embeddings, draws)`, which the losses are the mean squares of -> B Float32Array of C h w.
 * A draw is {image, prompt, timestep, noise, latentNoise}, the last two Float32Array of C h w.
 */

import { Stream, integers, normals } from './noise.js';

export const HELD_OUT_STEP = 2 ** 31; // training counts from 0 and never gets there

/** The `count` draws of one step; timesteps are uniform in low, ..., high - 1. */
export function draw(objective, seed, step, count, [low, high]) {
  const size = objective.latentsShape.reduce((product, side) => product * side, 1);
  const timesteps = integers(seed, Stream.TIMESTEP, step, count, high - low);
  const noise = normals(seed, Stream.NOISE, step, count * 2 * size);
  return timesteps.map((timestep, j) => ({
    image: integers(seed, Stream.IMAGE, step, 1, objective.numImages, 2 * j)[0],
    prompt: integers(seed, Stream.IMAGE, step, 1, objective.numPrompts, 2 * j + 1)[0],
    timestep: low + timestep,
    noise: noise.subarray(2 * j * size, (2 * j + 1) * size),
    latentNoise: noise.subarray((2 * j + 1) * size, (2 * j + 2) * size),
  }));
}

/** A fixed set of draws that training never uses; images in turn, timesteps spread evenly over the range. */
export function heldOutDraws(objective, seed, count, [low, high]) {
  return draw(objective, seed, HELD_OUT_STEP, count, [low, high]).map((drawn, j) => ({
    ...drawn,
    image: j % objective.numImages,
    timestep: low + Math.floor(((2 * j + 1) * (high - low)) / (2 * count)),
  }));
}

/** Loss of embedding b on draw b, in calls of at most `maxBatch` rows: an array of numbers. */
export function evaluateRows(objective, embeddings, draws, maxBatch) {
  return inCalls((...rows) => objective.losses(...rows), embeddings, draws, maxBatch);
}

/** Residuals of embedding b on draw b, in calls of at most `maxBatch` rows: an array of Float32Array. */
export function evaluateResiduals(objective, embeddings, draws, maxBatch) {
  return inCalls((...rows) => objective.residuals(...rows), embeddings, draws, maxBatch);
}

async function inCalls(call, embeddings, draws, maxBatch) {
  const out = [];
  for (let i = 0; i < draws.length; i += maxBatch) {
    out.push(...(await call(embeddings.slice(i, i + maxBatch), draws.slice(i, i + maxBatch))));
  }
  return out;
}
