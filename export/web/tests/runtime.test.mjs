/** The reader of bundles against the golden files; graphs where onnxruntime-web is installed: node --test tests/ */

import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';

import { BundleError, openBundle } from '../runtime/bundle.js';
import { inFolder } from '../runtime/folder.mjs';
import { verify } from '../runtime/golden.js';
import { BundleObjective, encode } from '../runtime/objective.js';
import { inCalls } from '../runtime/rows.js';
import { kindOf, reduction, resized, skipNotices, toPixels } from '../app/photos.js';
import { ddimStep, drawPictures, timesteps, toRgba } from '../runtime/generate.js';
import { learnedEmbeds, readEmbeds } from '../app/safetensors.js';
import { Text } from '../runtime/text.js';
import { Tokenizer } from '../runtime/tokenizer.js';
import { evaluateRows, heldOutDraws } from '../zo/draws.js';
import { directions } from '../zo/gauss_newton.js';
import { State, run } from '../zo/loop.js';
import { GOLDEN, bytesOf, close, read } from './golden.mjs';

const BUNDLE = join(GOLDEN, 'bundle');
const ort = await import('../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs').catch(() => null);
if (ort) [ort.env.wasm.numThreads, ort.env.logLevel] = [1, 'error'];
const skip = ort ? false : 'onnxruntime-web is not installed';

test('tokens.json', async () => {
  const golden = read('tokens.json');
  for (const [name, { folder, files, vocab_size, ...marks }] of Object.entries(golden.tokenizers)) {
    const source = {
      has: (path) => files.includes(basename(path)),
      bytes: async (path) => new Uint8Array(await readFile(join(GOLDEN, path))),
      json: async (path) => JSON.parse(await readFile(join(GOLDEN, path), 'utf8')),
    };
    const tokenizer = await Tokenizer.of(source, folder);
    for (const one of golden.texts) assert.deepEqual(tokenizer.words(one.text), one[name], JSON.stringify(one.text));
    const text = new Text({ tokens: [marks], embedding: [{ width: 1, vocab_size }] }, [tokenizer]);
    for (const { prompt, placeholders, [name]: row } of golden.rows) {
      if (row) assert.deepEqual(text.prompt(prompt, placeholders), row, prompt);
      else assert.throws(() => text.prompt(prompt, placeholders), /tokens long/);
    }
    for (const { word, [name]: id } of golden.single_words) {
      const ids = tokenizer.words(word);
      assert.equal(ids.length === 1 ? ids[0] : null, id, word);
    }
    for (const { placeholder, [name]: free } of golden.placeholders) {
      if (free) text.checkPlaceholder(placeholder);
      else assert.throws(() => text.checkPlaceholder(placeholder), /already a word/);
    }
  }
});

test('tokens.json: folders', async () => {
  const vocabulary = ['vocab.json', 'merges.txt'],
    place = join(BUNDLE, 'tokenizer');
  for (const { name, files, pad, texts, placeholders } of read('tokens.json').folders) {
    const source = {
      has: (path) => vocabulary.includes(basename(path)) || basename(path) in files,
      bytes: async (path) => new Uint8Array(await readFile(join(place, basename(path)))),
      json: async (path) => files[basename(path)] ?? JSON.parse(await readFile(join(place, basename(path)), 'utf8')),
    };
    const tokenizer = await Tokenizer.of(source, 'tokenizer');
    for (const { text, ids } of texts) assert.deepEqual(tokenizer.words(text), ids, `${name}: ${text}`);
    const marks = { bos: 624, eos: 625, pad, length: 16 };
    const text = new Text({ tokens: [marks], embedding: [{ width: 1, vocab_size: 640 }] }, [tokenizer]);
    for (const { placeholder, free } of placeholders) {
      if (free) text.checkPlaceholder(placeholder);
      else assert.throws(() => text.checkPlaceholder(placeholder), /already a word/);
    }
  }
});

test('ddim.json', () => {
  const golden = read('ddim.json');
  for (const { steps, timesteps: wanted, ...scheduler } of golden.timesteps)
    assert.deepEqual(timesteps(scheduler, steps), wanted);
  const scheduler = (one) => ({ ...one, ...tables(one), num_train_timesteps: golden.num_train_timesteps });
  const tables = ({ prediction_type: kind }) =>
    kind === 'flow' ? { a: golden.flow_a, b: golden.flow_b } : { a: golden.a, b: golden.b };
  const step = (one, predicted, t, latents) =>
    ddimStep({ prediction_type: one.prediction_type, scheduler: scheduler(one) }, predicted, t, one.steps, latents);
  for (const one of golden.steps) {
    const [predicted, latents] = [one.predicted, one.latents].map((values) => Float32Array.from(values));
    close(step(one, predicted, one.timestep, latents), one.before, 1e-5, `${one.prediction_type} ${one.timestep}`);
  }
  const { loop } = golden;
  let latents = Float32Array.from(loop.noise);
  for (const t of timesteps({ ...loop, num_train_timesteps: golden.num_train_timesteps }, loop.steps))
    latents = step(loop, latents.map((z) => 0.3 * z + t / 100), t, latents);
  close(latents, loop.latents, 1e-5, 'the whole loop');
});

const unhex = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));

/** RGB bytes as RGBA, of a rectangle. */
function rgba(rgb, width, { left, top, side }) {
  const out = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let c = 0; c < 3; c++) out[4 * (y * side + x) + c] = rgb[3 * ((top + y) * width + left + x) + c];
  return out;
}

const photo = ({ rgb, size, square }, side) => {
  const cut = rgba(unhex(rgb), size[0], square);
  return side === square.side ? cut : resized(cut, square.side, side);
};

test('photos.json', () => {
  const golden = read('photos.json');
  for (const one of golden.photos) {
    for (const { side, rgb } of one.resized) {
      const found = photo(one, side).filter((_, i) => i % 4 < 3);
      assert.deepEqual(Array.from(found), Array.from(unhex(rgb)), `${one.file} at ${side}`);
    }
  }
  const values = Uint8ClampedArray.from({ length: 256 * 256 * 4 }, (_, i) => i >> 2);
  assert.deepEqual(Array.from(toPixels(values, 256).subarray(0, 256)), golden.bytes_to_float);
  for (const { value, byte } of golden.float_to_byte)
    assert.equal(toRgba(new Float32Array(3).fill(value), 1)[0], byte, String(value));
});

test('a very large picture is reduced, never below twice the resolution', () => {
  assert.equal(reduction(8000, 5000, 512), 1); // 40 million pixels
  for (const [width, height, side, factor] of [
    [8160, 6120, 512, 4],
    [6120, 8160, 1024, 2],
    [16384, 12288, 512, 8],
    [8160, 6120, 16, 8],
    [8160, 6120, 2048, 1],
    [60000, 1000, 512, 1],
  ])
    assert.equal(reduction(width, height, side), factor);
});

test('a format is known by its first bytes', () => {
  const kind = (text) => kindOf(Uint8Array.from(text.padEnd(64, '\0'), (letter) => letter.charCodeAt(0)));
  for (const brand of ['heic', 'heix', 'mif1']) assert.equal(kind(`\0\0\0\x18ftyp${brand}\0\0\0\0mif1heic`), 'HEIC');
  assert.equal(kind('\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf'), 'AVIF');
  assert.equal(kind('\0\0\0\x14ftypqt  \0\0\0\0qt  heic'), '');
  assert.equal(kind('II*\0\x08'), 'TIFF');
  assert.equal(kind('<html>'), '');
  assert.equal(kindOf(new Uint8Array(0)), '');
  assert.equal(kindOf(Uint8Array.from('\0\0\0\0ftyp', (letter) => letter.charCodeAt(0))), '');
});

test('many files that are skipped for one reason are counted', () => {
  const files = (count, reason) => Array.from({ length: count }, (_, i) => [`${i}.mov`, reason]);
  assert.deepEqual(skipNotices([...files(2, 'damaged'), ['a.png', 'HEIC']]), [
    '0.mov is skipped: damaged',
    '1.mov is skipped: damaged',
    'a.png is skipped: HEIC',
  ]);
  assert.deepEqual(skipNotices(files(11, 'damaged')), ['11 files (0.mov to 10.mov) are skipped: damaged']);
  assert.deepEqual(skipNotices(files(3, 'there are more than 100 photos')), [
    '3 files (0.mov to 2.mov) are skipped: there are more than 100 photos',
  ]);
});

test('learned_embeds.json', () => {
  for (const { file, token, encoder_dims: widths, metadata, vectors } of read('learned_embeds.json').files)
    assert.deepEqual(learnedEmbeds(token, Float32Array.from(vectors.flat()), widths, metadata), bytesOf(file));
});

test('learned_embeds.json is read', () => {
  for (const { file, token, encoder_dims: widths, vectors } of read('learned_embeds.json').files) {
    assert.deepEqual(readEmbeds(bytesOf(file), file, widths), { token, vectors: Float32Array.from(vectors.flat()) });
    for (const bytes of [bytesOf(file).subarray(0, -1), bytesOf(file).subarray(0, 5), new Uint8Array(100)])
      assert.throws(() => readEmbeds(bytes, file, widths), new RegExp(`^Error: ${file} [^\\n]*$`));
    assert.throws(() => readEmbeds(bytesOf(file), file, [...widths.slice(1), 5]), /this model/);
    assert.throws(() => readEmbeds(bytesOf(file), 'learned.bin', widths), /is no .safetensors file/);
  }
});

/** A safetensors file of one tensor, from its dtype and bytes. */
function oneTensor(key, dtype, shape, data) {
  const header = new TextEncoder().encode(JSON.stringify({ [key]: { dtype, shape, data_offsets: [0, data.length] } }));
  return new Uint8Array([...new Uint8Array(new BigUint64Array([BigInt(header.length)]).buffer), ...header, ...data]);
}

test('embeddings of web UIs are read, in half precision too', () => {
  const forms = { F16: [0, 0x3c, 0, 0xc0], BF16: [0x80, 0x3f, 0, 0xc0], F32: [...new Uint8Array(new Float32Array([1, -2]).buffer)] };
  forms.F64 = [...new Uint8Array(new Float64Array([1, -2]).buffer)];
  for (const [dtype, data] of Object.entries(forms)) {
    const found = readEmbeds(oneTensor('emb_params', dtype, [1, 2], data), 'my style v2.safetensors', [2]);
    assert.deepEqual(found, { token: 'my style v2', vectors: Float32Array.from([1, -2]) });
    assert.deepEqual(readEmbeds(oneTensor('<s>', dtype, [2], data), 'x.safetensors', [2]).token, '<s>');
  }
  for (const [dtype, shape, data] of [['I8', [1, 2], [1, 2]], ['F16', [1, 2], [0, 0x7c, 0, 0]], ['F16', [2, 2], [0, 0, 0, 0]]])
    assert.throws(() => readEmbeds(oneTensor('<s>', dtype, shape, data), 'x.safetensors', [2]), /^Error: x.safetensors holds/);
});

// the bundle

/** A copy of the golden bundle, changed, and read as the page does: every file, before a graph is opened. */
async function refusedAfter(change, entry = '') {
  const folder = await mkdtemp(join(tmpdir(), 'golden-'));
  try {
    await cp(BUNDLE, folder, { recursive: true });
    await change(folder);
    const opened = async () => {
      const bundle = await openBundle(inFolder(folder), null);
      for (const path of Object.keys(bundle.manifest.files)) await bundle.bytes(path);
    };
    await assert.rejects(opened, (error) => error instanceof BundleError && !error.message.includes('\n') && error.message.includes(entry));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function replaceOnce(path, [old, changed]) {
  const parts = (await readFile(path, 'utf8')).split(old);
  assert.equal(parts.length, 2, old);
  await writeFile(path, parts.join(changed));
}

const damaged = read('damaged.json');
for (const { class: kind, name, replace, entry } of damaged.manifest)
  test(`damaged.json: ${kind}: ${name}`, () => refusedAfter((folder) => replaceOnce(join(folder, 'manifest.json'), replace), entry));

const ACTIONS = {
  remove: (path) => rm(path),
  cut: async (path) => writeFile(path, (await readFile(path)).subarray(0, -1)),
  flip: async (path) => {
    const data = await readFile(path);
    data[data.length - 1] ^= 1;
    await writeFile(path, data);
  },
  link: async (path) => {
    await rename(path, `${path}.moved`);
    await symlink(`${path}.moved`, path);
  },
};
for (const { name, action, file } of damaged.files.filter(({ action }) => action in ACTIONS)) // a page sees no other file
  test(`damaged.json: ${name}`, () => refusedAfter((folder) => ACTIONS[action](join(folder, file))));

const opened = () => openBundle(inFolder(BUNDLE), ort);

test("the bundle's own golden vectors", { skip }, async () => {
  const { differences, bounds } = await verify(await opened());
  assert.equal(Object.keys(differences).length, 5);
  for (const [graph, difference] of Object.entries(differences)) assert.ok(difference <= bounds[graph], graph);
});

test('bundle_runs.json', { skip }, async () => {
  const golden = read('bundle_runs.json'),
    { photos } = read('photos.json');
  const bundle = await opened(),
    text = await Text.of(bundle),
    { manifest } = bundle,
    side = manifest.resolution;
  const used = golden.photos.map((name) => photos.find(({ file }) => file === name));
  const latents = await encode(
    bundle,
    used.map((one) => ({ pixels: toPixels(photo(one, side), side) })),
  );
  for (const [i, { mean, std }] of golden.latents.entries()) {
    close(latents.means[i], mean, 1e-5, 'means');
    close(latents.stds[i], std, 1e-5, 'stds');
  }
  const principal = await bundle.principalDirections(),
    graph = await bundle.graph('zo_loss');
  for (const one of golden.runs) {
    const count = one.num_vectors,
      { eval_draws: evalDraws, ...preset } = manifest.presets[one.preset];
    const config = { ...preset, ...one.change };
    const initial = await text.initial(bundle, golden.initializer_token, count);
    assert.deepEqual(Array.from(initial), one.initial.flat());
    const sizes = used.map(({ size }) => [size[1], size[0]]);
    const objective = new BundleObjective(graph, manifest, text, latents, sizes, count);
    const basis =
      config.optimizer === 'adam' ? [] : directions(principal.slice(0, config.zo_directions), config.zo_samples, count);
    const state = new State(config, one.seed, initial, basis);
    const heldOut = async (token) => {
      const draws = heldOutDraws(objective, one.seed, evalDraws, config.timestep_range);
      const losses = await evaluateRows(objective, draws.map(() => token), draws, 16);
      return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    };
    close([await heldOut(initial)], [one.held_out_loss_before], 1e-3, 'held-out loss before');
    for await (const step of run(objective, state, { normRange: text.normRange, parts: text.widths })) {
      const wanted = one.steps[step.step - 1];
      close([step.loss], [wanted.loss], 1e-3 * wanted.loss, `loss of step ${step.step}`);
      assert.equal(step.forwards, wanted.forwards);
      assert.equal(step.clamped, wanted.clamped);
    }
    const way = Math.max(...one.vectors.flat().map((value, i) => Math.abs(value - one.initial.flat()[i])));
    close(state.result, one.vectors.flat(), 0.01 * way, 'vectors');
    close([await heldOut(state.result)], [one.held_out_loss_after], 1e-3, 'held-out loss after');
  }
  await graph.release();
  const { prompt, vectors_of_run: number, num_images: images, num_inference_steps: steps, rgb, ...how } = golden.pictures;
  const learned = Float32Array.from(golden.runs[number].vectors.flat());
  const row = text.prompt(prompt, [[golden.placeholder_token, golden.runs[number].num_vectors]]);
  const pictures = [];
  await drawPictures(bundle, text, {
    ids: Array(images).fill(row),
    learned,
    steps,
    guidance: how.guidance_scale,
    seed: how.seed,
    onPicture: (picture) => pictures.push(picture.filter((_, i) => i % 4 < 3)),
  });
  for (const [i, picture] of pictures.entries()) close(picture, unhex(rgb[i]), 2, `picture ${i}`);
  assert.equal(pictures.length, images);
  const placeholders = [[golden.placeholder_token, golden.runs[number].num_vectors]];
  const away = async (negative) => {
    let picture;
    const ids = [text.prompt('a photo of a dog', placeholders)];
    const onPicture = (rgba) => (picture = Array.from(rgba).join());
    await drawPictures(bundle, text, { ids, learned, negative, placeholders, steps: 2, onPicture });
    return picture;
  };
  const [none, plain, learnedWord, capitals] = [
    await away(''),
    await away('a mug'),
    await away(golden.placeholder_token),
    await away(golden.placeholder_token.toUpperCase()),
  ];
  assert.equal(new Set([none, plain, learnedWord]).size, 3);
  assert.equal(capitals, learnedWord);
});

// graphs of a fixed number of rows

const FIXED = { inputs: { noise: { shape: [3, 2] }, learned: { shape: [3, 1] } } };

for (const count of [1, 3, 4, 7])
  test(`a graph of 3 rows runs on ${count}: a call is filled with its last row, which is dropped again`, async () => {
    const calls = [],
      data = Float32Array.from({ length: 2 * count }, (_, i) => i);
    const run = async (call) => {
      calls.push(call);
      return { twice: { data: Float32Array.from(call.noise.data, (x) => 2 * x), shape: [3, 2] } };
    };
    const inputs = { noise: { data, shape: [count, 2] }, learned: { data: Float32Array.of(5), shape: [1, 1] } };
    const { twice } = await inCalls(run, inputs, FIXED);
    assert.deepEqual([...twice.data], [...data].map((x) => 2 * x));
    assert.deepEqual(twice.shape, [count, 2]);
    assert.equal(calls.length, Math.ceil(count / 3));
    assert.deepEqual([...calls.at(-1).noise.data.slice(-2)], [...data.slice(-2)]);
    assert.deepEqual([...calls[0].learned.data], [5, 0, 0]);
  });

test('more vectors than a graph of a fixed size holds are refused', async () => {
  const inputs = { noise: { data: [0, 0], shape: [1, 2] }, learned: { data: [1, 2, 3, 4], shape: [4, 1] } };
  await assert.rejects(inCalls(null, inputs, FIXED), /4 vectors, and the bundle's graphs hold 3/);
});

test('a loss that the graph does not give is the mean square of its residual, and rows have vectors of their own', async () => {
  const asked = [];
  const graph = {
    described: { outputs: { residual: {} } },
    run: async ({ input_ids: ids, learned, noise }) => {
      asked.push({ ids: ids.data.map(Number), vectors: learned.shape[0] });
      return { residual: { data: Float32Array.from(noise.data), shape: noise.shape } };
    },
  };
  const manifest = {
    target: { rows: 2, vectors: 1 },
    latents: [1, 1, 2],
    resolution: 8,
    prompts: { object: [{ before: [[]], after: [[]] }] },
  };
  const text = { width: 1, scale: [1], row: (before, after, count, first) => [100 + first] };
  const latents = { means: [Float32Array.of(0, 0)], stds: [Float32Array.of(0, 0)] };
  const objective = new BundleObjective(graph, manifest, text, latents, [[8, 8]], 1);
  const draws = [1, 2, 3].map((x) => ({ image: 0, prompt: 0, timestep: 1, noise: [x, x], latentNoise: [0, 0] }));
  const losses = await objective.losses([1, 2, 3].map((x) => Float32Array.of(x)), draws);
  assert.deepEqual(losses, [1, 4, 9]);
  assert.deepEqual(asked, [{ ids: [100, 101], vectors: 2 }, { ids: [100], vectors: 1 }]);
  const another = () => new BundleObjective(graph, manifest, text, latents, [[8, 8]], 2);
  assert.throws(another, /^Error: num_vectors is 2; the bundle's graphs are for 1; give that/);
});
