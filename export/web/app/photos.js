/**
 * Photos as the model takes them: the twin of edge_sdk/images.py, as far as a browser can be.
 *
 * The browser decodes (upright, colours as they are in the file), Pillow's cropping and resampling is done here in its
 * own integer arithmetic. So an opaque PNG gives Python's pixels exactly; a JPEG or WebP decoder may differ by a level
 * or two, a half-transparent pixel by one. Of an animation the first picture is taken, where Python refuses it.
 */

const MAX_BYTES = 64 * 2 ** 20,
  MAX_PIXELS = 40e6,
  MIN_SIDE = 8;
export const MAX_PHOTOS = 100;
const BITS = 22; // of a resampling weight's fraction

class Unusable extends Error {}

/**
 * Read one photo.
 * @param file a File or Blob
 * @param resolution side in pixels of the square that it becomes
 * @returns {Promise<{pixels: Float32Array, rgba: Uint8ClampedArray, size: number[]}>}
 *   pixels (3, side, side) in [-1, 1]; size [height, width] as it came, upright
 * @throws {Error} one line: why it is skipped
 */
export async function readPhoto(file, resolution) {
  if (file.size > MAX_BYTES) throw new Unusable('larger than 64 MB');
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  if (!isPicture(head)) throw new Unusable('not a PNG, JPEG or WebP picture');
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' }).catch(() => {
    throw new Unusable('damaged');
  });
  const { width, height } = bitmap,
    side = Math.min(width, height);
  if (width * height > MAX_PIXELS) throw new Unusable(`${width} x ${height} pixels; at most 40 million are read`);
  if (side < MIN_SIDE) throw new Unusable(`${width} x ${height} pixels; each side must be ${MIN_SIDE} or more`);
  const pen = new OffscreenCanvas(side, side).getContext('2d', { willReadFrequently: true });
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, side, side);
  pen.drawImage(bitmap, -((width - side) >> 1), -((height - side) >> 1));
  bitmap.close();
  const square = pen.getImageData(0, 0, side, side).data;
  const rgba = side === resolution ? square : resized(square, side, resolution);
  return { rgba, pixels: toPixels(rgba, resolution), size: [height, width] };
}

function isPicture(head) {
  const starts = (text, at = 0) => Array.from(text).every((letter, i) => head[at + i] === letter.charCodeAt(0));
  return starts('\x89PNG\r\n\x1a\n') || starts('\xff\xd8\xff') || (starts('RIFF') && starts('WEBP', 8));
}

/** RGBA bytes -> (3, side, side) float32 in [-1, 1]. */
export function toPixels(rgba, side) {
  const plane = side * side,
    out = new Float32Array(3 * plane);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < plane; i++) out[c * plane + i] = Math.fround(rgba[4 * i + c] / 127.5) - 1;
  }
  return out;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0);
function bicubic(x) {
  const a = -0.5,
    d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}

/** For each place of the result: where its window begins, and the window's weights as integers. */
function windows(from, to) {
  const [filter, reach] = from > to ? [lanczos, 3] : [bicubic, 2];
  const scale = from / to,
    stretch = Math.max(scale, 1),
    support = reach * stretch;
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(from, Math.trunc(center + support + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => filter((j + first - center + 0.5) * (1 / stretch)));
    const total = weights.reduce((sum, w) => sum + w, 0);
    return { first, weights: weights.map((w) => Math.trunc((w / total) * 2 ** BITS + (w < 0 ? -0.5 : 0.5))) };
  });
}

/** An RGBA square as Pillow resizes it: rows first, then columns; Lanczos where it shrinks, else bicubic. */
export function resized(rgba, from, to) {
  const places = windows(from, to);
  const pass = (source, lines, step, next, width) => {
    const out = new Uint8ClampedArray(lines * to * 4);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < to; i++) {
        const { first, weights } = places[i];
        for (let c = 0; c < 4; c++) {
          let sum = 2 ** (BITS - 1);
          for (let j = 0; j < weights.length; j++) sum += source[line * next + (first + j) * step + c] * weights[j];
          out[step === 4 ? (line * to + i) * 4 + c : (i * width + line) * 4 + c] = Math.floor(sum / 2 ** BITS);
        }
      }
    }
    return out;
  };
  const narrow = pass(rgba, from, 4, from * 4, to); // (from, to)
  return pass(narrow, to, to * 4, 4, to); // (to, to)
}
