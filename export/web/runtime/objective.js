/** A bundle's zo_loss graph as the function that the optimizer sees (zo/draws.js). */

import { BundleError } from './manifest.js';

const stacked = (rows) => {
  const out = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => out.set(row, i * row.length));
  return out;
};

/**
 * Photos as latents: {means, stds}, a Float32Array each a photo.
 * @param photos {pixels: Float32Array of 3 side side in [-1, 1]} each
 */
export async function encode(bundle, photos) {
  const graph = await bundle.graph('vae_encoder'),
    side = bundle.manifest.resolution;
  const means = [],
    stds = [];
  for (const { pixels } of photos) {
    const { mean, std } = await graph.run({ pixels: { data: pixels, shape: [1, 3, side, side] } });
    means.push(mean.data);
    stds.push(std.data);
  }
  await graph.release();
  return { means, stds };
}

export class BundleObjective {
  /**
   * @param graph the opened zo_loss
   * @param text the bundle's `Text`
   * @param latents of `encode`
   * @param sizes [height, width] of each photo as it came; SDXL is told
   * @param count K, vectors per placeholder
   * @throws {BundleError} the graphs are for tokens of another number of vectors
   */
  constructor(graph, manifest, text, latents, sizes, count) {
    const { vectors } = manifest.target ?? { vectors: count };
    if (vectors !== count)
      throw new BundleError(
        `num_vectors is ${count}; the bundle's graphs are for ${vectors}; give that, or export a bundle with --num_vectors ${count}`,
      );
    const kind = manifest.prompts.pocket ? 'pocket' : 'object';
    Object.assign(this, { graph, manifest, text, latents, sizes, count, prompts: manifest.prompts[kind] });
    this.numImages = latents.means.length;
    this.numPrompts = this.prompts.length;
    this.latentsShape = manifest.latents;
    this.embeddingShape = [count, text.width];
  }

  /** Rows of a call of a bundle for one processor, or null for any number. */
  get rows() {
    return this.manifest.target?.rows ?? null;
  }

  /** Losses of embeddings (the optimizer's variable) on draws. A graph without them leaves them to us. */
  async losses(embeddings, draws) {
    if (!this.graph.described.outputs.loss) {
      const residuals = await this.residuals(embeddings, draws);
      return residuals.map((row) => row.reduce((sum, x) => sum + x * x, 0) / row.length);
    }
    const { loss } = await this.#run(embeddings, draws);
    return Array.from(loss.data);
  }

  /** What the losses are the mean squares of: predicted minus wanted, a Float32Array of C h w each. */
  async residuals(embeddings, draws) {
    const out = [],
      most = this.rows ?? draws.length; // each row of a call has vectors of its own
    for (let i = 0; i < draws.length; i += most) {
      const some = draws.slice(i, i + most),
        { residual } = await this.#run(embeddings.slice(i, i + most), some),
        size = residual.data.length / some.length;
      out.push(...some.map((_, b) => residual.data.subarray(b * size, (b + 1) * size)));
    }
    return out;
  }

  /** All in one call: the graph takes one list of vectors, so each row's ids name vectors of its own. */
  #run(embeddings, draws) {
    const { text, count, manifest } = this,
      rows = draws.length;
    const distinct = [...new Set(embeddings)],
      scale = text.scale;
    const learned = stacked(distinct).map((value, i) => value * scale[i % text.width]);
    const ids = draws.flatMap(({ prompt }, b) => {
      const { before, after } = this.prompts[prompt];
      return text.row(before, after, count, distinct.indexOf(embeddings[b]) * count);
    });
    const latents = draws.map(({ image, latentNoise }) => {
      const std = this.latents.stds[image];
      return this.latents.means[image].map((mean, i) => mean + Math.fround(std[i] * latentNoise[i]));
    });
    const shape = [rows, ...manifest.latents],
      side = manifest.resolution;
    const sizes = draws.flatMap(({ image }) => [...this.sizes[image], 0, 0, side, side]);
    return this.graph.run({
      input_ids: { data: ids.map(BigInt), shape: [rows, ids.length / rows] },
      learned: { data: learned, shape: [distinct.length * count, text.width] },
      sizes: { data: sizes, shape: [rows, 6] },
      latents: { data: stacked(latents), shape },
      noise: { data: stacked(draws.map(({ noise }) => noise)), shape },
      timestep: { data: draws.map(({ timestep }) => BigInt(timestep)), shape: [rows] },
    });
  }
}
