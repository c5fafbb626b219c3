/**
 * Photos as the model takes them: the twin of edge_sdk/images.py, as far as a browser can be.
 *
 * The browser decodes (upright, in sRGB by the embedded profile), Pillow's cropping and resampling is done here in its
 * own integer arithmetic. So an opaque PNG without a profile gives Python's pixels exactly; a JPEG or WebP decoder and a
 * conversion may differ by a level or two, a half-transparent pixel by one. Of an animation the first picture is taken,
 * where Python refuses it.
 */

const MAX_BYTES = 256 * 2 ** 20,
  MAX_PIXELS = 40e6, // of a picture that is taken at full scale
  MAX_DECODED_PIXELS = 2 ** 28,
  MIN_SIDE = 8,
  MARGIN = 2, // a reduced picture keeps this many times the resolution
  REDUCTIONS = [8, 4, 2],
  LARGE_FILE = 8e6; // bytes: what a browser cannot decode may then be too large for it
export const MAX_PHOTOS = 100;
const MAX_NAMED = 10; // of the files that are skipped for one reason; more are counted
const BITS = 22; // of a resampling weight's fraction
const HEIF = ['heic', 'heix', 'hevc', 'hevx', 'heim', 'heis', 'hevm', 'hevs', 'mif1', 'msf1'];
const NOT_EVERYWHERE = {
  HEIC: 'save it as JPEG (Mac: Preview, Export; iPhone: Settings, Camera, Formats, Most Compatible)',
  TIFF: 'save it as JPEG or PNG',
  AVIF: 'save it as JPEG or PNG',
};

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
  if (file.size > MAX_BYTES) throw new Unusable(`larger than ${MAX_BYTES >> 20} MB`);
  const whole = await decoded(file),
    { width, height } = whole;
  if (width * height > MAX_DECODED_PIXELS)
    throw new Unusable(`${width} x ${height} pixels; at most ${Math.floor(MAX_DECODED_PIXELS / 1e6)} million are read`);
  if (Math.min(width, height) < MIN_SIDE)
    throw new Unusable(`${width} x ${height} pixels; each side must be ${MIN_SIDE} or more`);
  const bitmap = await reduced(whole, reduction(width, height, resolution)),
    side = Math.min(bitmap.width, bitmap.height);
  const pen = new OffscreenCanvas(side, side).getContext('2d', { willReadFrequently: true });
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, side, side);
  pen.drawImage(bitmap, -((bitmap.width - side) >> 1), -((bitmap.height - side) >> 1));
  bitmap.close();
  const square = pen.getImageData(0, 0, side, side).data;
  const rgba = side === resolution ? square : resized(square, side, resolution);
  return { rgba, pixels: toPixels(rgba, resolution), size: [height, width] };
}

async function decoded(file) {
  const kind = kindOf(new Uint8Array(await file.slice(0, 64).arrayBuffer()));
  if (!kind) throw new Unusable('not a PNG, JPEG or WebP picture');
  return createImageBitmap(file).catch(() => {
    if (NOT_EVERYWHERE[kind]) throw new Unusable(`${kind}, which this browser cannot read; ${NOT_EVERYWHERE[kind]}`);
    throw new Unusable(file.size > LARGE_FILE ? 'damaged, or too large for this browser' : 'damaged');
  });
}

/** Which format a file has by its first bytes; empty for none that a browser may know. */
export function kindOf(head) {
  const text = String.fromCharCode(...head);
  const is = (start, at = 0) => text.startsWith(start, at);
  if (is('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (is('\xff\xd8\xff')) return 'JPEG';
  if (is('RIFF') && is('WEBP', 8)) return 'WebP';
  if (is('GIF8')) return 'GIF';
  if (is('BM')) return 'BMP';
  if (is('II*\0') || is('MM\0*')) return 'TIFF';
  if (!is('ftyp', 4)) return '';
  const length = Math.min(text.length, new DataView(head.buffer, head.byteOffset).getUint32(0));
  const brands = Array.from({ length: Math.max(0, (length - 8) >> 2) }, (_, i) => text.slice(8 + 4 * i, 12 + 4 * i));
  if (brands.includes('avif') || brands.includes('avis')) return 'AVIF';
  return brands.some((brand) => HEIF.includes(brand)) ? 'HEIC' : '';
}

/** By how much a very large picture is reduced before it is cropped and resampled. */
export function reduction(width, height, resolution) {
  if (width * height <= MAX_PIXELS) return 1;
  return REDUCTIONS.find((r) => Math.floor(Math.min(width, height) / r) >= MARGIN * resolution) ?? 1;
}

async function reduced(bitmap, factor) {
  if (factor === 1) return bitmap;
  const size = { resizeWidth: Math.ceil(bitmap.width / factor), resizeHeight: Math.ceil(bitmap.height / factor) };
  const smaller = await createImageBitmap(bitmap, { ...size, resizeQuality: 'high' });
  bitmap.close();
  return smaller;
}

/** [name, reason] of files that are skipped -> lines: one a file, or one with the count where many have one reason. */
export function skipNotices(skipped) {
  const names = new Map();
  for (const [name, reason] of skipped) names.set(reason, [...(names.get(reason) ?? []), name]);
  return Array.from(names).flatMap(([reason, alike]) =>
    alike.length > MAX_NAMED || (alike.length > 1 && reason.startsWith('there are more than'))
      ? [`${alike.length} files (${alike[0]} to ${alike.at(-1)}) are skipped: ${reason}`]
      : alike.map((name) => `${name} is skipped: ${reason}`),
  );
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
