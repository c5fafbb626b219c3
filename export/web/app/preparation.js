/** What a user should know before a run: the twin of `pocket_notices` in edge_sdk/preparation.py. */

import { encode } from '../runtime/objective.js';
import { toPixels } from './photos.js';
import { toRgba } from '../runtime/generate.js';

export const POCKET_PSNR = 20; // dB; the VAE reproduces every held-out person better, photographs worse

/** Mean over pictures of the PSNR in dB of pixels in [-1, 1], each at most 66 dB. */
export function psnr(reproduced, photos) {
  const each = photos.map((pixels, i) => {
    const error = pixels.reduce((sum, value, j) => sum + (reproduced[i][j] - value) ** 2, 0) / pixels.length;
    return 10 * Math.log10(4 / Math.max(error, 1e-6));
  });
  return each.reduce((sum, value) => sum + value, 0) / each.length;
}

/**
 * A warning where photos are not of the kind that the embedded model draws: its VAE cannot reproduce them.
 *
 * @param photos {pixels: Float32Array of 3 side side in [-1, 1]} each
 * @returns {Promise<string>} one line, empty where there is nothing to say
 */
export async function pocketNotice(bundle, photos) {
  const { model, latents: shape, resolution } = bundle.manifest;
  if (model.family !== 'pocket') return '';
  const { means } = await encode(bundle, photos),
    decoder = await bundle.graph('vae_decoder'),
    reproduced = [];
  try {
    for (const mean of means) {
      const { pixels } = await decoder.run({ latents: { data: mean, shape: [1, ...shape] } });
      reproduced.push(toPixels(toRgba(pixels.data, resolution), resolution));
    }
  } finally {
    await decoder.release();
  }
  const quality = psnr(
    reproduced,
    photos.map(({ pixels }) => pixels),
  );
  if (quality >= POCKET_PSNR) return '';
  return (
    `These photos are not what this model can draw: it draws pixel-art people only, and its VAE reproduces them at ` +
    `${quality.toFixed(0)} dB. Expect their colours at best. For real photos, export a Stable Diffusion model.`
  );
}
