/** What the page computes for itself: node --test tests/ */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { digest, sha256 } from '../sha256.js';

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
