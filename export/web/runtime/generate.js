/** Pictures from a prompt and learned vectors by DDIM (Song et al., 2021): the twin of edge_sdk/runtime/pytorch/generate.py. */

import { Stream, normals } from '../zo/noise.js';

/** To the nearest integer, halves to the even one, as numpy rounds. */
function rounded(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

/** The timesteps of a sampling run, falling. */
export function timesteps({ num_train_timesteps: total, timestep_spacing: spacing, steps_offset: offset }, steps) {
  const count = Array.from({ length: steps }, (_, i) => i);
  if (spacing === 'linspace') {
    return count.map((i) => rounded((i * (total - 1)) / Math.max(steps - 1, 1))).reverse();
  }
  if (spacing === 'trailing') return count.map((i) => rounded(total - (i * total) / steps) - 1);
  return count.map((i) => i * Math.floor(total / steps) + offset).reverse();
}

/** x0 and noise that a prediction stands for. */
function parts(kind, predicted, z, a, b) {
  if (kind === 'epsilon') return [z.map((x, i) => (x - b * predicted[i]) / a), predicted];
  if (kind === 'flow') return [z.map((x, i) => x - b * predicted[i]), z.map((x, i) => x + a * predicted[i])];
  return [z.map((x, i) => a * x - b * predicted[i]), z.map((x, i) => a * predicted[i] + b * x)];
}

/** From the latents of one timestep to those of the one before. */
export function ddimStep(manifest, predicted, timestep, steps, latents) {
  const { a, b, num_train_timesteps: total, ...s } = manifest.scheduler;
  const before = timestep - Math.floor(total / steps);
  let [x0, noise] = parts(manifest.prediction_type, predicted, latents, a[timestep], b[timestep]);
  if (s.clip_sample) x0 = x0.map((x) => Math.min(Math.max(x, -s.clip_sample_range), s.clip_sample_range));
  if (before < 0 && s.set_alpha_to_one) return x0;
  const at = Math.max(before, 0);
  return x0.map((x, i) => a[at] * x + b[at] * noise[i]);
}

/**
 * Draw pictures, one after the other.
 *
 * @param text the bundle's `Text`
 * @param ids rows of input_ids, one a picture
 * @param learned vectors, Float32Array of K D
 * @param negative prompt to keep away from, in which the placeholders stand for their vectors, too
 * @param placeholders see `Text.prompt`
 * @param seed picture i starts from the same noise whatever else is drawn
 * @param onPicture called with each finished picture: Uint8ClampedArray of side side 4
 * @param goOn asked before each picture; false ends it
 * @returns {Promise<number>} forward passes of the denoiser, where a row of a call is one
 */
export async function drawPictures(
  bundle,
  text,
  { ids, learned, negative = '', placeholders = [], steps = 25, guidance = 4, seed = 0, onPicture, goOn = async () => true },
) {
  const { manifest } = bundle,
    side = manifest.resolution,
    size = manifest.latents.reduce((x, y) => x * y, 1);
  const encoder = await bundle.graph('text_encoder');
  const without = text.prompt(negative, placeholders),
    length = without.length;
  const vectors = { data: learned, shape: [learned.length / text.width, text.width] };
  const told = [];
  for (const row of ids) {
    const found = await encoder.run({
      input_ids: { data: [...without, ...row].map(BigInt), shape: [2, length] },
      learned: vectors,
    });
    if (found.pooled && !negative && manifest.force_zeros_for_empty_prompt !== false) {
      for (const { data } of Object.values(found)) data.fill(0, 0, data.length / 2);
    }
    told.push(found);
  }
  await encoder.release();
  let forwards = 0;
  const [unet, decoder] = [await bundle.graph('unet'), await bundle.graph('vae_decoder')];
  try {
    for (const [i, states] of told.entries()) {
      if (!(await goOn())) break;
      let latents = normals(seed, Stream.NOISE, i, size);
      for (const t of timesteps(manifest.scheduler, steps)) {
        const { predicted } = await unet.run({
          ...states,
          sample: { data: [...latents, ...latents], shape: [2, ...manifest.latents] },
          timestep: { data: [BigInt(t), BigInt(t)], shape: [2] },
          sizes: { data: [side, side, 0, 0, side, side, side, side, 0, 0, side, side], shape: [2, 6] },
        });
        forwards += 2;
        const away = predicted.data.subarray(0, size),
          towards = predicted.data.subarray(size);
        const guided = away.map((x, j) => x + guidance * (towards[j] - x));
        latents = ddimStep(manifest, guided, t, steps, latents);
      }
      const { pixels } = await decoder.run({ latents: { data: latents, shape: [1, ...manifest.latents] } });
      onPicture(toRgba(pixels.data, side), i);
    }
  } finally {
    await unet.release();
    await decoder.release();
  }
  return forwards;
}

/** (3, side, side) in about [-1, 1] as RGBA bytes. */
export function toRgba(pixels, side) {
  const out = new Uint8ClampedArray(side * side * 4).fill(255),
    plane = side * side;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++)
      out[4 * i + c] = rounded((Math.min(Math.max(pixels[c * plane + i], -1), 1) + 1) * 127.5);
  }
  return out;
}
