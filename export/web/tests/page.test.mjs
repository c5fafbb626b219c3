/** What the page computes for itself: node --test tests/ */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { Smoothed } from '../app/curve.js';
import { psnr } from '../app/preparation.js';
import { digest, sha256 } from '../runtime/sha256.js';
import { verdict } from '../app/verdict.js';

test('SHA-256 where a browser offers none: every length around a block', async () => {
  const reference = (data) => createHash('sha256').update(data).digest('hex');
  const data = Uint8Array.from({ length: 300 }, (_, i) => (i * i * 31 + 7 * i) & 255);
  for (let length = 0; length <= 200; length++) {
    const part = data.subarray(3, 3 + length);
    assert.equal(Buffer.from(digest(part)).toString('hex'), reference(part), `${length} bytes`);
  }
  const large = new Uint8Array(1_000_003).fill(0xa5);
  assert.equal(Buffer.from(digest(large)).toString('hex'), reference(large));
  assert.equal(await sha256(large), reference(large));
});

test('the smoothed loss is a weighted mean of all losses from the first step on', () => {
  const smoothed = new Smoothed();
  assert.ok(Number.isNaN(smoothed.value));
  const losses = [4, 2, 1, 0.5, 3];
  for (const [i, loss] of losses.entries()) {
    smoothed.add(loss);
    const seen = losses.slice(0, i + 1),
      weights = seen.map((_, j) => 0.8 ** (i - j));
    const mean = seen.reduce((sum, x, j) => sum + weights[j] * x, 0) / weights.reduce((sum, w) => sum + w, 0);
    assert.ok(Math.abs(smoothed.value - mean) < 1e-12);
  }
});

test('a verdict says by how much the loss fell, and never that it fell if it did not', () => {
  assert.match(verdict(0.2, 0.086), /^Closer to your photos by 57 %: loss 0\.2000 before and 0\.0860 after/);
  assert.match(verdict(0.2, 0.1981), /^Closer to your photos by 1 %/);
  for (const after of [0.1999, 0.2, 0.3, NaN]) assert.match(verdict(0.2, after), /^No closer to your photos: loss 0\.2/);
});

test('PSNR is the mean of the photos, each bounded', () => {
  const photo = (value) => new Float32Array(12).fill(value);
  assert.ok(Math.abs(psnr([photo(0.2)], [photo(0)]) - 20) < 1e-5);
  assert.ok(Math.abs(psnr([photo(0.5)], [photo(0.5)]) - 10 * Math.log10(4e6)) < 1e-9);
  assert.ok(Math.abs(psnr([photo(0.2), photo(2)], [photo(0), photo(0)]) - 10) < 1e-5);
});
