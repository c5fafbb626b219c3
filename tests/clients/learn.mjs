/**
 * A client in another language: it learns a token from photos with a bundle of edge-sdk, in Node.
 *
 * It was written from export/README.md, the bundle's own files and the public documentation of ONNX Runtime alone. Its
 * author had not read the source of edge-sdk, and nothing of that source is used here. It knows the preset `fast`, one
 * vector a token, and photos that already have the side of the bundle.
 *
 *   npm install onnxruntime-web
 *   node learn.mjs --bundle BUNDLE --photos FOLDER --output learned_embeds.safetensors
 */

import { createHash } from 'node:crypto';
import { lstatSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { inflateSync } from 'node:zlib';

const options = parseArgs({
  options: {
    bundle: { type: 'string' },
    photos: { type: 'string' },
    output: { type: 'string', default: 'learned_embeds.safetensors' },
    placeholder: { type: 'string', default: '<subject>' },
    word: { type: 'string' }, // the manifest's `initializer_token` where absent
    seed: { type: 'string', default: '0' },
    steps: { type: 'string' }, // the preset's where absent
    runtime: { type: 'string', default: 'onnxruntime-web' }, // a package, or the address of a module
  },
}).values;
const ort = await import(options.runtime);
ort.env.wasm.numThreads = 1;

const { fround, max, min, sqrt } = Math;
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const norm = (a) => sqrt(dot(a, a));

// The bundle: every file is checked before the runtime sees one.

const manifest = JSON.parse(readFileSync(join(options.bundle, 'manifest.json'), 'utf8'));
if (manifest.schema_version !== 3 || manifest.format !== 'onnx') throw new Error('not an ONNX bundle of version 3');
const files = {};
for (const [path, { bytes, sha256 }] of Object.entries(manifest.files)) {
  const names = path.split('/');
  if (names.some((name) => ['', '.', '..'].includes(name)) || /[\\:]/.test(path)) throw new Error(`${path}: outside`);
  for (let n = 1; n <= names.length; n++)
    if (lstatSync(join(options.bundle, ...names.slice(0, n))).isSymbolicLink()) throw new Error(`${path}: a link`);
  files[path] = readFileSync(join(options.bundle, path));
  const digest = createHash('sha256').update(files[path]).digest('hex');
  if (files[path].length !== bytes || digest !== sha256) throw new Error(`${path}: damaged`);
}
const { embedding, latents: latentShape, resolution: side } = manifest;
const preset = manifest.presets.fast;
const [lowest, end] = preset.timestep_range;
const latentSize = latentShape.reduce((a, b) => a * b);
const width = embedding.reduce((sum, part) => sum + part.width, 0); // of a token, all text encoders side by side
const scale = embedding.flatMap((part) => Array(part.width).fill(part.scale));
if (preset.train_batch_size !== 1) throw new Error('this client takes one draw a step');

function openGraph(name) {
  const settings = manifest.runtime.onnxruntime;
  const session = Object.entries(settings.session).map(([key, value]) => [key.replace('session.', ''), value]);
  const weights = Object.keys(manifest.files).filter((path) => manifest.files[path].role === 'weights');
  return ort.InferenceSession.create(files[manifest.graphs[name].file], {
    enableCpuMemArena: settings.enable_cpu_mem_arena,
    externalData: weights.map((path) => ({ path, data: files[path] })),
    extra: { session: Object.fromEntries(session) },
  });
}

// Random numbers: Philox4x32-10.

const [NOISE, TIMESTEPS, CHOICES] = [1, 2, 3]; // streams
const key = [Number(BigInt(options.seed) & 0xffffffffn), Number(BigInt(options.seed) >> 32n)];

/** The high and the low word of a * b. */
function product(a, b) {
  const [upper, lower] = [(a >>> 16) * b, (a & 0xffff) * b]; // both below 2^48, exact
  return [Math.floor((upper + lower / 65536) / 65536), Math.imul(a, b) >>> 0];
}

/** Words `from` to `from + count` of a sequence. */
function words(stream, step, from, count) {
  const out = [];
  for (let block = Math.floor(from / 4); 4 * block < from + count; block++) {
    let [c, k] = [[block, 0, step, stream], key];
    for (let round = 0; round < 10; round++) {
      const [[pHigh, pLow], [qHigh, qLow]] = [product(0xd2511f53, c[0]), product(0xcd9e8d57, c[2])];
      c = [(qHigh ^ c[1] ^ k[0]) >>> 0, qLow, (pHigh ^ c[3] ^ k[1]) >>> 0, pLow];
      k = [(k[0] + 0x9e3779b9) >>> 0, (k[1] + 0xbb67ae85) >>> 0];
    }
    out.push(...c);
  }
  return out.slice(from % 4, (from % 4) + count);
}

const integer = (word, n) => product(word, n)[0];

function normals(step, from, count) {
  const uniforms = words(NOISE, step, from, count).map((word) => (word + 0.5) / 2 ** 32);
  const radius = (i) => sqrt(-2 * Math.log(uniforms[i - (i % 2)]));
  const angle = (i) => 2 * Math.PI * uniforms[i - (i % 2) + 1];
  return Float32Array.from(uniforms, (_, i) => radius(i) * (i % 2 ? Math.sin(angle(i)) : Math.cos(angle(i))));
}

// Photos: PNG files of 8-bit RGB. An app would crop and resample others.

/** Pixels (3, side, side) in [-1, 1]. */
function readPhoto(path) {
  const data = readFileSync(path);
  const ihdr = [side, side].map((size, i) => data.readUInt32BE(16 + 4 * i) === size);
  if (!ihdr.every(Boolean) || data.readUInt16BE(24) !== 0x0802 || data[28])
    throw new Error(`${path}: not ${side} x ${side} pixels of 8-bit RGB without interlacing`);
  const compressed = [];
  for (let at = 8; at < data.length; at += 12 + data.readUInt32BE(at))
    if (data.toString('latin1', at + 4, at + 8) === 'IDAT')
      compressed.push(data.subarray(at + 8, at + 8 + data.readUInt32BE(at)));
  const lines = inflateSync(Buffer.concat(compressed));
  const rows = [new Uint8Array(3 * side + 3)]; // a row above the first, a pixel left of each
  const pixels = new Float32Array(3 * side * side);
  for (let y = 0; y < side; y++) {
    const [row, above] = [new Uint8Array(3 * side + 3), rows[y]];
    for (let x = 3; x < row.length; x++) {
      const [left, up, corner] = [row[x - 3], above[x], above[x - 3]];
      const [dl, du, dc] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs);
      const paeth = dl <= du && dl <= dc ? left : du <= dc ? up : corner;
      const line = y * (3 * side + 1);
      row[x] = lines[line + x - 2] + [0, left, up, (left + up) >> 1, paeth][lines[line]];
      pixels[((x % 3) * side + y) * side + Math.floor(x / 3) - 1] = row[x] / 127.5 - 1;
    }
    rows.push(row);
  }
  return pixels;
}

const encoder = await openGraph('vae_encoder');
const photos = [];
for (const name of readdirSync(options.photos).sort().filter((name) => name.endsWith('.png'))) {
  const pixels = new ort.Tensor('float32', readPhoto(join(options.photos, name)), [1, 3, side, side]);
  const { mean, std } = await encoder.run({ pixels });
  photos.push({ mean: mean.data, std: std.data });
}
await encoder.release();
if (!photos.length) throw new Error(`${options.photos}: no PNG files`);

// The loss.

const zoLoss = await openGraph('zo_loss');
const prompts = manifest.prompts.pocket ?? manifest.prompts.object;

function tokenIds(prompt, vector) {
  return manifest.tokens.flatMap(({ bos, eos, pad, length }, i) => {
    const ids = [bos, ...prompt.before[i], embedding[i].vocab_size + vector, ...prompt.after[i], eos];
    return [...ids, ...Array(length - ids.length).fill(pad)];
  });
}

/** Draw j of a step: a photo's latents, a prompt, a timestep, and noise. */
function drawOf(step, j = 0, heldOut = {}) {
  const [image, prompt] = words(CHOICES, step, 2 * j, 2);
  const { mean, std } = photos[heldOut.image ?? integer(image, photos.length)];
  const latentNoise = normals(step, (2 * j + 1) * latentSize, latentSize);
  return {
    latents: mean.map((value, i) => value + fround(std[i] * latentNoise[i])),
    noise: normals(step, 2 * j * latentSize, latentSize),
    prompt: prompts[integer(prompt, prompts.length)],
    timestep: heldOut.timestep ?? lowest + integer(words(TIMESTEPS, step, j, 1)[0], end - lowest),
  };
}

/** The residual of every token on the draw beside it, latentSize numbers each, in one call. */
async function residualsOf(tokens, draws) {
  const batch = tokens.length;
  const ids = draws.flatMap(({ prompt }, row) => tokenIds(prompt, row));
  const floats = (rows, shape) => [Float32Array.from(rows.flatMap((row) => [...row])), [batch, ...shape]];
  const inputs = {
    input_ids: [BigInt64Array.from(ids, BigInt), [batch, ids.length / batch]],
    learned: floats(tokens.map((token) => token.map((x, i) => x * scale[i])), [width]),
    latents: floats(draws.map(({ latents }) => latents), latentShape),
    noise: floats(draws.map(({ noise }) => noise), latentShape),
    timestep: [BigInt64Array.from(draws, ({ timestep }) => BigInt(timestep)), [batch]],
    sizes: floats(draws.map(() => [side, side, 0, 0, side, side]), [6]),
  };
  const types = Object.entries(manifest.graphs.zo_loss.inputs);
  const feeds = types.map(([name, { dtype }]) => [name, new ort.Tensor(dtype, ...inputs[name])]);
  const { residual } = await zoLoss.run(Object.fromEntries(feeds), ['residual']);
  return tokens.map((_, row) => Float64Array.from(residual.data.subarray(row * latentSize, (row + 1) * latentSize)));
}

/** Draws that learning never takes, over all timesteps. */
const heldOutDraws = Array.from({ length: preset.eval_draws }, (_, j) => {
  const timestep = Math.floor(((2 * j + 1) * manifest.scheduler.num_train_timesteps) / (2 * preset.eval_draws));
  return drawOf(2 ** 31, j, { image: j % photos.length, timestep });
});

async function heldOutLoss(token) {
  const residuals = await residualsOf(heldOutDraws.map(() => token), heldOutDraws);
  return residuals.reduce((sum, residual) => sum + dot(residual, residual), 0) / latentSize / residuals.length;
}

// Learning.

function float16(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return (bits >> 15 ? -1 : 1) * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

function embeddingRow({ table: { file, offset, dtype }, width }, id) {
  const [data, half] = [files[file], dtype === 'float16'];
  const read = half ? (at) => float16(data.readUInt16LE(at)) : (at) => data.readFloatLE(at);
  return Array.from({ length: width }, (_, i) => read(offset + (id * width + i) * (half ? 2 : 4)));
}

/** x of A x = b, A symmetric and positive: Cholesky. */
function solve(A, b) {
  const [L, x] = [A.map((row) => [...row]), [...b]];
  for (let i = 0; i < b.length; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = L[i][j] - dot(L[i].slice(0, j), L[j]);
      L[i][j] = i === j ? sqrt(rest) : rest / L[j][j];
    }
    x[i] = (x[i] - dot(x.slice(0, i), L[i])) / L[i][i];
  }
  for (let i = b.length - 1; i >= 0; i--) {
    for (let k = i + 1; k < b.length; k++) x[i] -= L[k][i] * x[k];
    x[i] /= L[i][i];
  }
  return x;
}

const ids = manifest.initializers[options.word ?? manifest.initializer_token];
if (!ids) throw new Error(`--word: one of ${Object.keys(manifest.initializers).join(', ')}`);
let theta = Float32Array.from(embedding.flatMap((part, i) => embeddingRow(part, ids[i])), (x, i) => x / scale[i]);

const perStep = preset.zo_samples;
const rows = files[manifest.principal_directions.file];
const directions = Array.from({ length: max(preset.zo_directions, perStep) }, (_, j) =>
  Float32Array.from({ length: width }, (_, i) => rows.readFloatLE(4 * (j * width + i))),
);
const mu = fround(preset.zo_mu);
const slope = directions.map(() => 0);
const curvature = directions.map(() => directions.map(() => 0));
const seen = directions.map(() => 0);

/** Half of a step's directions promise most, the others were not looked at for the longest time. */
function chooseDirections() {
  const all = [...seen.keys()];
  const mean = all.reduce((sum, j) => sum + curvature[j][j], 0) / all.length;
  const gain = all.map((j) => slope[j] ** 2 / max(curvature[j][j] + preset.damping * mean, 1e-300));
  const kept = seen.every(Boolean) ? all.toSorted((i, j) => gain[j] - gain[i]).slice(0, perStep >> 1) : [];
  const waiting = all.toSorted((i, j) => seen[i] - seen[j]).filter((j) => !kept.includes(j));
  return [...kept, ...waiting].slice(0, perStep).sort((i, j) => i - j);
}

function boundNorms(token) {
  let left = 0;
  for (const { width, norm_range: [low, high] } of embedding) {
    const piece = token.subarray(left, (left += width));
    const length = norm(piece);
    const factor = min(max(length, low), high) / max(length, 1e-12);
    if (length < low || length > high) piece.forEach((x, i) => (piece[i] = x * factor));
  }
}

console.log(`held-out loss ${await heldOutLoss(theta)}`);
let [count, bad] = [0, 0];
for (let step = 0; step < Number(options.steps ?? preset.max_train_steps); step++) {
  const chosen = chooseDirections();
  const tokens = [theta, ...chosen.map((j) => theta.map((x, i) => x + fround(mu * directions[j][i])))];
  const [base, ...residuals] = await residualsOf(tokens, Array(tokens.length).fill(drawOf(step)));
  if (![base, ...residuals].every((one) => one.every(Number.isFinite))) {
    if (++bad >= preset.max_bad_steps) throw new Error(`${bad} steps in a row without a finite loss`);
    continue;
  }
  bad = 0;
  console.log(`step ${step + 1} loss ${dot(base, base) / latentSize}`);
  const jacobian = residuals.map((residual) => residual.map((x, i) => (x - base[i]) / mu));
  const weight = (++count ** preset.memory * 2) / latentSize;
  chosen.forEach((j, row) => {
    slope[j] += weight * dot(jacobian[row], base);
    chosen.forEach((k, column) => (curvature[j][k] += weight * dot(jacobian[row], jacobian[column])));
    seen[j] = count;
  });
  const damping = (preset.damping * chosen.reduce((sum, j) => sum + curvature[j][j], 0)) / perStep;
  if (!(damping > 0)) continue; // the token makes no difference to these draws
  const damped = chosen.map((j) => chosen.map((k) => curvature[j][k] + (j === k ? damping : 0)));
  const move = solve(damped, chosen.map((j) => -slope[j]));
  const factor = min(1, preset.trust_radius / max(norm(move), 1e-300));
  const next = theta.map((x, i) => x + factor * chosen.reduce((sum, j, row) => sum + move[row] * directions[j][i], 0));
  boundNorms(next);
  const change = Float64Array.from(next, (x, i) => x - theta[i]);
  const coefficients = directions.map((direction) => dot(direction, change) / dot(direction, direction));
  curvature.forEach((row, j) => (slope[j] += dot(row, coefficients)));
  theta = next;
}
console.log(`held-out loss ${await heldOutLoss(theta)}`);
await zoLoss.release();

// The file: safetensors.

const header = { __metadata__: { format: 'pt', placeholder_token: options.placeholder } };
let bytes = 0;
embedding.forEach((part, i) => {
  const name = embedding.length > 1 ? ['clip_l', 'clip_g'][i] : options.placeholder;
  header[name] = { dtype: 'F32', shape: [1, part.width], data_offsets: [bytes, (bytes += 4 * part.width)] };
});
const text = Buffer.from(JSON.stringify(header));
const file = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8 + bytes, ' ');
file.writeBigUInt64LE(BigInt(file.length - 8 - bytes));
text.copy(file, 8);
theta.forEach((x, i) => file.writeFloatLE(x * scale[i], file.length - bytes + 4 * i));
writeFileSync(options.output, file);
