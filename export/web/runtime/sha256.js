/**
 * SHA-256 (FIPS 180-4). Browsers offer crypto.subtle to secure origins only, and a page that a phone opens over http in
 * its network has none.
 */

/** The SHA-256 of a Uint8Array in hexadecimal digits. */
export async function sha256(data) {
  const bytes = globalThis.crypto?.subtle ? new Uint8Array(await crypto.subtle.digest('SHA-256', data)) : digest(data);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (x) => ((x % 1) * 2 ** 32) | 0;
const K = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const BLOCK = 64; // bytes

/** The same without crypto.subtle: Uint8Array of 32. */
export function digest(data) {
  const whole = data.length - (data.length % BLOCK),
    tail = new Uint8Array(data.length - whole < BLOCK - 8 ? BLOCK : 2 * BLOCK);
  tail.set(data.subarray(whole));
  tail[data.length - whole] = 0x80;
  new DataView(tail.buffer).setBigUint64(tail.length - 8, 8n * BigInt(data.length));
  const state = START.slice(),
    out = new DataView(new ArrayBuffer(32));
  compress(state, data, whole);
  compress(state, tail, tail.length);
  state.forEach((word, i) => out.setInt32(4 * i, word));
  return new Uint8Array(out.buffer);
}

const turn = (x, by) => (x >>> by) | (x << (32 - by));

/** Section 6.2.2 for each block of the first `length` bytes. */
function compress(state, data, length) {
  const view = new DataView(data.buffer, data.byteOffset, data.length),
    w = new Int32Array(64);
  for (let at = 0; at < length; at += BLOCK) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const [x, y] = [w[i - 15], w[i - 2]];
      const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3),
        s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25),
        s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
      const t1 = h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i],
        t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] += word));
  }
}
