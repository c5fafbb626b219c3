/** The optimizer against the golden files: node --test tests/ */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { PAPER, checked, fast } from '../zo/config.js';
import { draw, heldOutDraws } from '../zo/draws.js';
import { directions } from '../zo/gauss_newton.js';
import { NonFiniteLossError, State, run } from '../zo/loop.js';
import { Stream, integers, normals, philox4x32, words } from '../zo/noise.js';
import { lowVarianceDirections } from '../zo/subspace.js';
import { close, neighbours, objectiveOf, read } from './golden.mjs';

test('noise.json', () => {
  const golden = read('noise.json');
  for (const { counter, key, output } of golden.philox4x32_10) assert.deepEqual(philox4x32(counter, key), output);
  for (const { seed, stream, step, start, values } of golden.words)
    assert.deepEqual(Array.from(words(seed, stream, step, values.length, start)), values);
  for (const { seed, stream, step, values } of golden.uniforms)
    assert.deepEqual(Array.from(words(seed, stream, step, values.length), (word) => (word + 0.5) / 2 ** 32), values);
  for (const { seed, stream, step, n, values } of golden.integers)
    assert.deepEqual(integers(seed, stream, step, values.length, n), values);
  for (const { seed, stream, step, start = 0, values } of [...golden.normals, ...golden.normals_from])
    neighbours(normals(seed, stream, step, values.length, start), values, `normals of seed ${seed} from ${start}`);
  assert.throws(() => words(-1, 0, 0, 4), RangeError);
  assert.throws(() => words(0, 0, 2 ** 32, 4), RangeError);
});

test('draws.json', () => {
  const golden = read('draws.json');
  const compare = (found, wanted) => {
    assert.equal(found.length, wanted.length);
    for (const [j, one] of wanted.entries()) {
      for (const name of ['image', 'prompt', 'timestep']) assert.equal(found[j][name], one[name], name);
      neighbours(found[j].noise, one.noise, 'noise');
      neighbours(found[j].latentNoise, one.latent_noise, 'latent noise');
    }
  };
  const objective = ({ images, prompts }) => ({
    numImages: images,
    numPrompts: prompts,
    latentsShape: golden.latents_shape,
  });
  for (const one of golden.draws)
    compare(draw(objective(one), one.seed, one.step, one.count, one.timestep_range), one.draws);
  for (const one of golden.held_out)
    compare(heldOutDraws(objective(one), one.seed, one.count, one.timestep_range), one.draws);
  for (const { seed, step, values } of golden.perturbations)
    neighbours(normals(seed, Stream.PERTURBATION, step, values.flat().length), values.flat(), 'perturbations');
  for (const { principal, num_vectors: vectors, rows } of golden.token_basis) {
    const basis = directions(principal.map((row) => Float32Array.from(row)), 2, vectors);
    assert.deepEqual(basis.map((row) => Array.from(row)), rows);
  }
  assert.throws(() => directions([new Float32Array(3)], 2, 1), /zo_samples is 2; there are 1 directions/);
});

test('presets.json', () => {
  const golden = read('presets.json');
  const { schema_version: version, ...paper } = golden.paper;
  assert.equal(version, 1);
  assert.deepEqual({ ...PAPER }, paper);
  checked(golden.paper);
  for (const { vocabulary_std: std, width, config } of golden.fast) {
    assert.deepEqual({ schema_version: 1, ...fast(std, width) }, config);
    checked(config);
  }
  for (const { name, value } of golden.refused)
    assert.throws(() => checked({ ...golden.paper, [name]: value }), new RegExp(name), `${name} ${value}`);
  const { damping: _, ...incomplete } = golden.paper;
  assert.throws(() => checked(incomplete), /damping/);
});

test('subspace.json', () => {
  for (const { history, threshold, removed } of read('subspace.json').cases) {
    const found = lowVarianceDirections(history.map((row) => Float32Array.from(row)), threshold);
    assert.equal(found.length, removed.length);
    const width = history[0].length;
    const projection = (rows) =>
      Array.from({ length: width * width }, (_, at) =>
        rows.reduce((sum, row) => sum + row[Math.floor(at / width)] * row[at % width], 0),
      );
    close(projection(found), projection(removed), 1e-5, 'P^T P');
  }
});

const golden = read('trajectory.json');
const older = golden.gauss_newton.runs.map((one, i) => ({ ...one, name: `Gauss-Newton, older form, ${i}` }));
for (const one of [{ ...golden, name: 'the quadratic, older form' }, ...older]) {
  test(`trajectory.json: ${one.name}`, async () => {
    const steps = one.tokens.map((token, i) => ({ token, loss: one.losses?.[i], clamped: one.clamped?.[i] }));
    await repeats({ start: one.target.map((row) => row.map(() => 0)), norm_range: [0, 1e6], ...one, steps });
  });
}
for (const one of golden.runs) test(`trajectory.json: ${one.name}`, () => repeats(one));

async function repeats(one) {
  const width = one.target[0].length,
    count = one.target.length,
    parts = one.parts ?? [width];
  const basis = one.principal
    ? directions(one.principal.map((row) => Float32Array.from(row)), one.config.zo_samples, count)
    : [];
  const state = new State(one.config, one.seed, Float32Array.from(one.start.flat()), basis);
  const bound = (end) => [end].flat().concat(Array(parts.length).fill([end].flat()[0])).slice(0, parts.length);
  const how = { normRange: one.norm_range.map(bound), parts, maxBatch: one.max_batch ?? 4 };
  const loop = run(objectiveOf(one), state, how)[Symbol.asyncIterator]();
  for (const [i, wanted] of one.steps.entries()) {
    if (wanted.chosen) assert.deepEqual(Array.from(state.newton.choose()), wanted.chosen, `step ${i + 1}`);
    const { value: step } = await loop.next();
    close(state.embedding, wanted.token.flat(), 1e-5, `token of step ${i + 1}`);
    if (wanted.loss === null) assert.ok(Number.isNaN(step.loss));
    else if (wanted.loss !== undefined) close([step.loss], [wanted.loss], 1e-5 * Math.max(1, Math.abs(wanted.loss)), 'loss');
    for (const name of ['forwards', 'removed', 'skipped', 'clamped'])
      if (wanted[name] !== undefined) assert.equal(step[name], wanted[name], `${name} of step ${i + 1}`);
  }
  if (one.ends) await assert.rejects(loop.next(), NonFiniteLossError);
  else assert.equal((await loop.next()).done, true);
  if (one.result) close(state.result, one.result.flat(), 1e-5, 'result');
}

test('a run without enough directions does not start', () => {
  assert.throws(() => new State(fast(0.02, 4), 0, new Float32Array(4)), /gauss_newton needs 32 directions or more/);
});
