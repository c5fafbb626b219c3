/**
 * Portable randomness: Philox4x32-10 bits, integers and normals; the twin of edge_sdk/zo/noise.py, which defines them.
 *
 * Bits and integers are Python's. Normals are computed in float64 and rounded to float32 once; logarithm, sine and
 * cosine may differ in their last bit from one machine to the next, so a normal is Python's or its float32 neighbour.
 */

export const Stream = { PERTURBATION: 0, NOISE: 1, TIMESTEP: 2, IMAGE: 3, AUGMENTATION: 4 };

const M0 = 0xd2511f53,
  M1 = 0xcd9e8d57,
  W0 = 0x9e3779b9,
  W1 = 0xbb67ae85;

/** The upper 32 bits of a product of two unsigned 32-bit numbers. */
function high(a, b) {
  const a1 = a >>> 16,
    a0 = a & 0xffff,
    b1 = b >>> 16,
    b0 = b & 0xffff;
  const low = a1 * b0 + ((a0 * b0) >>> 16);
  const middle = a0 * b1 + (low & 0xffff);
  return a1 * b1 + (low >>> 16) + (middle >>> 16);
}

/** Ten rounds on one counter of four words, with a key of two: four words. */
export function philox4x32([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    [c0, c1, c2, c3] = [high(M1, c2) ^ c1 ^ k0, Math.imul(M1, c2), high(M0, c0) ^ c3 ^ k1, Math.imul(M0, c0)];
    [c0, c1, c2, c3] = [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
    [k0, k1] = [(k0 + W0) >>> 0, (k1 + W1) >>> 0];
  }
  return [c0, c1, c2, c3];
}

/**
 * Words `start` to `start + count` of the sequence of a seed (number or BigInt below 2^64), a stream and a step.
 * @returns {Uint32Array}
 */
export function words(seed, stream, step, count, start = 0) {
  const wide = BigInt(seed);
  if (wide < 0n || wide >= 1n << 64n || step < 0 || step >= 2 ** 32) {
    throw new RangeError(`seed ${seed} must be in [0, 2**64) and step ${step} in [0, 2**32)`);
  }
  const key = [Number(wide & 0xffffffffn), Number(wide >> 32n)];
  const out = new Uint32Array(count);
  for (let block = Math.floor(start / 4); block * 4 < start + count; block++) {
    const four = philox4x32([block >>> 0, Math.floor(block / 2 ** 32), step, stream], key);
    for (let i = 0; i < 4; i++) {
      const place = block * 4 + i - start;
      if (place >= 0 && place < count) out[place] = four[i];
    }
  }
  return out;
}

/** `count` integers in [0, n), for 1 <= n <= 2^32. */
export function integers(seed, stream, step, count, n, start = 0) {
  return Array.from(words(seed, stream, step, count, start), (word) => (n === 2 ** 32 ? word : high(word, n)));
}

/**
 * `count` standard normals from number `start` of the sequence on, by Box-Muller.
 * @returns {Float32Array}
 */
export function normals(seed, stream, step, count, start = 0) {
  const first = start - (start % 2);
  const bits = words(seed, stream, step, count + (start - first) + 1, first);
  const out = new Float32Array(count);
  for (let i = 0; i + 1 < bits.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log((bits[i] + 0.5) / 2 ** 32));
    const angle = 2 * Math.PI * ((bits[i + 1] + 0.5) / 2 ** 32);
    const place = first + i - start; // -1 where the pair's first number is not asked for
    if (place >= 0) out[place] = radius * Math.cos(angle);
    if (place + 1 < count) out[place + 1] = radius * Math.sin(angle);
  }
  return out;
}
