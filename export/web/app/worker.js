/**
 * The worker: it holds the model, and photos never leave it.
 * Messages in: open, look, learn, draw, check, cancel; messages out: see app.js.
 */

import * as ort from '../onnxruntime-web/ort.wasm.min.js';

import { fetched, openBundle } from '../runtime/bundle.js';
import { verify } from '../runtime/golden.js';
import { BundleObjective, encode } from '../runtime/objective.js';
import { MAX_PHOTOS, readPhoto } from './photos.js';
import { drawPictures } from '../runtime/generate.js';
import { pocketNotice } from './preparation.js';
import { runRecord, varianceShare } from './record.js';
import { learnedEmbeds, readEmbeds } from './safetensors.js';
import { Text, wordsIn } from '../runtime/text.js';
import { fold } from '../runtime/tokenizer.js';
import { evaluateRows, heldOutDraws } from '../zo/draws.js';
import { directions } from '../zo/gauss_newton.js';
import { State, run } from '../zo/loop.js';

const MAX_BATCH = 16,
  ROW_LATENTS = 8192; // rows a call at most, and h w of all of them

ort.env.logLevel = 'error';
const runtimeFile = (name) => new URL(`../onnxruntime-web/${name}`, import.meta.url).href;
ort.env.wasm.wasmPaths = {
  mjs: runtimeFile('ort-wasm-simd-threaded.js'),
  wasm: runtimeFile('ort-wasm-simd-threaded.wasm'),
};
let bundle, text, principal, learned; // learned: {placeholder, vectors} of the last run
let cancelled = false;

/** Let waiting messages in; false if one of them was a cancel. */
async function goOn() {
  await new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => (port1.close(), resolve());
    port2.postMessage(null);
  });
  return !cancelled;
}

async function open({ base, threads }) {
  ort.env.wasm.numThreads = threads;
  bundle = await openBundle(fetched(base), ort);
  text = await Text.of(bundle);
  principal = await bundle.principalDirections();
  await bundle.weights();
  const { model, weights, resolution, prompts, initializer_token: initializer, files } = bundle.manifest,
    steps = bundle.manifest.presets.fast.max_train_steps;
  const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  postMessage({ type: 'opened', model, weights, resolution, bytes, initializer, prompts, steps });
}

async function readPhotos(files) {
  const photos = [],
    skipped = [];
  for (const file of files) {
    try {
      if (photos.length === MAX_PHOTOS) throw new Error(`there are more than ${MAX_PHOTOS} photos`);
      photos.push(await readPhoto(file, bundle.manifest.resolution));
    } catch (error) {
      skipped.push([file.name, error.message]);
    }
  }
  postMessage({ type: 'photos', pictures: photos.map(({ rgba }) => rgba), side: bundle.manifest.resolution, skipped });
  if (!photos.length) throw new Error('none of these files is a usable photo; give PNG, JPEG or WebP');
  return { photos, skipped };
}

/** Show photos as the model will see them, and warn of photos that it cannot draw. */
async function look({ files }) {
  const { photos } = await readPhotos(files);
  postMessage({ type: 'notice', message: await pocketNotice(bundle, photos) });
  postMessage({ type: 'looked' });
}

async function learn({ files, placeholder, initializer, steps, seed, preview = 4 }) {
  const count = bundle.manifest.target?.vectors ?? 1;
  text.checkPlaceholder(placeholder);
  const initial = await text.initial(bundle, initializer, count),
    zo = { ...bundle.manifest.presets.fast, max_train_steps: steps };
  const searched = Math.max(zo.zo_directions, zo.zo_samples),
    basis = directions(principal.slice(0, searched), zo.zo_samples, count);
  const { photos, skipped } = await readPhotos(files);
  say('Encoding the photos');
  const latents = await encode(bundle, photos);
  const prompt = bundle.manifest.prompts.pocket ?? bundle.manifest.prompts.object;
  const shown = prompt[0].text.replace('{}', placeholder);
  say('Drawing what the model knows before');
  let drawn = await draw({ prompt: shown, vectors: initial, placeholder, images: preview, seed, kind: 'before' });

  const objective = new BundleObjective(
    await bundle.graph('zo_loss'),
    bundle.manifest,
    text,
    latents,
    photos.map(({ size }) => size),
    count,
  );
  const { scale } = text,
    [, height, width] = bundle.manifest.latents,
    maxBatch = objective.rows ?? Math.max(1, Math.min(MAX_BATCH, Math.floor(ROW_LATENTS / (height * width))));
  const state = new State(
    zo,
    seed,
    initial.map((value, i) => value / scale[i % text.width]),
    basis,
  );
  const every = [0, bundle.manifest.scheduler.num_train_timesteps]; // of all timesteps, so that losses can be compared
  const draws = heldOutDraws(objective, seed, zo.eval_draws, every);
  const heldOut = async () => {
    const losses = await evaluateRows(
      objective,
      draws.map(() => same),
      draws,
      maxBatch,
    );
    return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  };
  let same = state.result;
  const before = await heldOut();
  for await (const step of run(objective, state, {
    normRange: text.normRange,
    parts: text.widths,
    maxBatch,
  })) {
    postMessage({ type: 'step', total: zo.max_train_steps, ...step });
    if (!(await goOn())) break;
  }
  same = state.result;
  const after = await heldOut();
  await objective.graph.release();

  const vectors = same.map((value, i) => value * scale[i % text.width]);
  learned = { placeholder, vectors };
  if (!cancelled) {
    say('Drawing what it has learned');
    drawn += await draw({ prompt: shown, vectors, placeholder, images: preview, seed, kind: 'after' });
  }
  const { model, weights, execution } = bundle.manifest;
  const file = learnedEmbeds(placeholder, vectors, text.widths, {
    initializer_token: initializer,
    model_sha256: model.sha256,
    weights,
    execution,
    preset: 'fast',
    steps: String(state.step),
    seed: String(seed),
  });
  const record = runRecord(bundle.manifest, state, {
    settings: { placeholder, initializer, count, steps, seed },
    losses: [before, after],
    draws: draws.length,
    forwards: { 'held-out losses': 2 * draws.length, preview: drawn },
    varianceShare: varianceShare(bundle.manifest, principal, searched),
    photos: [photos.length, skipped.length],
    maxBatch,
    runtime: ort.env.versions.web,
  });
  postMessage({
    type: 'learned',
    file,
    record,
    before,
    after,
    steps: state.step,
    forwards: state.forwards,
    seconds: state.seconds,
    cancelled,
  });
}

/**
 * Pictures of a prompt; in it and in the negative one, placeholders stand for what was learned and for what files hold.
 *
 * @returns {Promise<number>} forward passes of the denoiser
 */
async function draw({ prompt, negative = '', images, seed, kind = 'drawn', files = [], ...token }) {
  const { placeholder, vectors } = { ...learned, ...token };
  const known = placeholder ? [{ token: placeholder, vectors }] : [];
  for (const file of files) known.push(readEmbeds(new Uint8Array(await file.arrayBuffer()), file.name, text.widths));
  const words = known.map(({ token }) => token),
    twice = words.find((word, i) => words.slice(0, i).some((other) => fold(other) === fold(word)));
  if (twice) throw new Error(`two embeddings have the word ${twice}, in any letters; choose one of them`);
  const placeholders = known.map(({ token, vectors }) => [token, vectors.length / text.width]);
  const forwards = await drawPictures(bundle, text, {
    ids: Array(images).fill(text.prompt(prompt, placeholders)),
    learned: Float32Array.from(known.flatMap(({ vectors }) => Array.from(vectors))),
    negative,
    placeholders,
    seed,
    goOn,
    onPicture: (rgba, index) =>
      postMessage({ type: 'picture', kind, rgba, index, images, side: bundle.manifest.resolution }),
  });
  const used = wordsIn(`${prompt}\n${negative}`, words),
    unused = words.slice(1).filter((word) => !used.includes(word));
  if (kind === 'drawn') postMessage({ type: 'drawn', cancelled, unused });
  return forwards;
}

async function check({ calls = 1 }) {
  postMessage({
    type: 'checked',
    runtime: `onnxruntime-web ${ort.env.versions.web}`,
    ...(await verify(bundle, calls)),
  });
}

const say = (message) => postMessage({ type: 'status', message });
const tasks = { open, look, learn, draw, check };

onmessage = async ({ data: { type, ...rest } }) => {
  if (type === 'cancel') {
    cancelled = true;
    return;
  }
  cancelled = false;
  try {
    await tasks[type](rest);
  } catch (error) {
    postMessage({ type: 'error', message: String(error.message ?? error).split('\n')[0] });
  }
};
