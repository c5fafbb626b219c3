/** What must be in manifest.json, of which type: the twin of edge_sdk/runtime/onnx/manifest.py. */

import { checked } from '../zo/config.js';

export const SCHEMA_VERSION = 3;

/** A bundle that cannot be used; one line. */
export class BundleError extends Error {}

const LARGEST = 3e38; // of a float32, about
const integer = Number.isSafeInteger,
  number = (value) => Number.isFinite(value) && Math.abs(value) <= LARGEST,
  text = (value) => typeof value === 'string',
  flag = (value) => typeof value === 'boolean',
  object = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const one = (...values) => ({ values });
const list = (kind) => [kind];
const named = (kind) => ({ '*': kind });
const absent = (value) => value === undefined; // an entry of other formats
const optional = (kind) => ({ optional: kind });
const orNull = (kind) => (value) => value === null || kind(value);

const TENSORS = named({
  shape: list((size) => integer(size) || text(size)),
  dtype: one('float32', 'int64', 'int32'),
});
const PRESET = { schema_version: integer, eval_draws: (count) => integer(count) && count >= 1 && count <= 65536 };
const TARGETS = { qnn: 'onnx', ane: 'coreml' }; // a processor that graphs are made for, and the format it belongs to
const within = (least, most) => (value) => integer(value) && least <= value && value <= most;
const ENTRIES = {
  target: optional({ name: one(...Object.keys(TARGETS)), rows: within(1, 4096), vectors: within(1, 64) }),
  created_by: text,
  model: { name: text, sha256: text, family: one('pocket', 'stable-diffusion', 'stable-diffusion-xl') },
  weights: one('int8', 'int4', 'none'),
  execution: text,
  prediction_type: one('epsilon', 'v_prediction', 'flow'),
  resolution: (side) => integer(side) && side > 0,
  latents: (sizes) => Array.isArray(sizes) && sizes.length === 3 && sizes.every((size) => integer(size) && size > 0),
  embedding: list({
    width: integer,
    vocab_size: integer,
    scale: number,
    norm_range: (ends) => Array.isArray(ends) && ends.length === 2 && 0 <= ends[0] && ends[0] <= ends[1],
    table: { file: text, offset: integer, dtype: one('float16', 'float32'), shape: list(integer) },
  }),
  vocabulary_std: (std) => number(std) && std > 0,
  principal_directions: {
    file: text,
    count: integer,
    width: integer,
    variance_share: optional((share) => number(share) && 0 <= share && share <= 1),
  },
  mu_min: optional(orNull((floor) => number(floor) && floor >= 0)),
  initializer_token: orNull(text),
  initializer_id: orNull(Array.isArray),
  initializers: named(list(integer)),
  presets: { fast: PRESET, paper: PRESET },
  force_zeros_for_empty_prompt: optional(flag),
  prompts: named(list({ text, before: list(list(integer)), after: list(list(integer)) })),
  tokens: list({ bos: integer, eos: integer, pad: integer, length: integer, folder: text }),
  scheduler: {
    num_train_timesteps: integer,
    a: list(number),
    b: list(number),
    timestep_spacing: one('leading', 'trailing', 'linspace'),
    steps_offset: integer,
    clip_sample: flag,
    clip_sample_range: number,
    set_alpha_to_one: flag,
  },
  graphs: named({ file: text, function: absent, inputs: TENSORS, outputs: TENSORS }),
  runtime: named(object),
  files: named({ role: text, bytes: integer, sha256: text }),
};

/**
 * A manifest of its text.
 * @throws {BundleError} not JSON, a key given twice, another schema or format, an entry that is missing or wrong, or a
 *   path that leads out of the folder
 */
export function parsedManifest(bytes) {
  const source = decoded(bytes, 'manifest.json'),
    manifest = parsed(source, 'manifest.json');
  const twice = keyGivenTwice(source);
  if (twice !== null) refuse(`gives ${JSON.stringify(twice)} twice`);
  if (manifest?.schema_version !== SCHEMA_VERSION)
    refuse(`has schema version ${JSON.stringify(manifest?.schema_version)}; this page reads ${SCHEMA_VERSION}`);
  if (manifest.format !== 'onnx') refuse(`is of the format ${manifest.format}; a browser runs onnx`);
  check(manifest, ENTRIES, '');
  for (const [name, { eval_draws: _, ...preset }] of Object.entries(manifest.presets)) {
    try {
      checked(preset);
    } catch (error) {
      refuse(`presets.${name}: ${error.message}`);
    }
    if (preset.timestep_range[1] > manifest.scheduler.num_train_timesteps)
      refuse(`presets.${name}.timestep_range must end within num_train_timesteps`);
  }
  if (manifest.target) checkTarget(manifest);
  checkPaths(manifest);
  return manifest;
}

export function decoded(bytes, name) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new BundleError(`${name} is not UTF-8 text; make the bundle again`);
  }
}

export function parsed(source, name) {
  try {
    return JSON.parse(source);
  } catch (error) {
    const why = error.message.replace(/\s+/g, ' '); // it shows a part of the text, with its line breaks
    throw new BundleError(`${name} is not JSON (${why}); make the bundle again`);
  }
}

function refuse(what) {
  throw new BundleError(`manifest.json ${what}; make the bundle again with edge-sdk export`);
}

function check(value, kind, name) {
  const shown = name.slice(0, -1);
  if (kind.optional) {
    if (value !== undefined) check(value, kind.optional, name);
  } else if (typeof kind === 'function') {
    if (!kind(value)) refuse(`has ${shown} ${String(JSON.stringify(value)).slice(0, 40)}, which cannot be`);
  } else if (Array.isArray(kind)) {
    if (!Array.isArray(value)) refuse(`has ${shown}, which is not a list`);
    value.forEach((each, i) => check(each, kind[0], `${name}${i}.`));
  } else if (kind.values) {
    if (!kind.values.includes(value)) refuse(`has ${shown} ${JSON.stringify(value)}, not one of ${kind.values.join(', ')}`);
  } else {
    if (!object(value)) refuse(`has ${shown}, which is not an object`);
    for (const key of Object.keys('*' in kind ? value : kind)) {
      if (!Object.hasOwn(value, key) && kind[key] !== absent && !kind[key].optional) refuse(`has no ${name}${key}`);
      check(value[key], kind['*'] ?? kind[key], `${name}${key}.`);
    }
  }
}

/** A bundle for one processor: its graphs have no free sizes. */
function checkTarget({ target, format, graphs }) {
  const { name, rows, vectors } = target;
  if (TARGETS[name] !== format) refuse(`has target.name ${name}, which is for the format ${TARGETS[name]}`);
  const tensors = Object.values(graphs).flatMap(({ inputs, outputs }) => [...Object.values(inputs), ...Object.values(outputs)]);
  if (tensors.some(({ shape }) => shape.some(text))) refuse('has graphs of a target without numbers for sizes');
  const { timestep, learned } = graphs.zo_loss?.inputs ?? {};
  if (String(timestep?.shape) !== String([rows])) refuse(`has target.rows ${rows}, which zo_loss does not take`);
  if (!(learned?.shape.length > 1) || learned.shape.slice(0, -1).reduce((a, b) => a * b) !== rows * vectors)
    refuse(`has target.vectors ${vectors}, which zo_loss does not take`);
}

/** Relative, with "/" between plain names. */
export function isSafe(path) {
  return path.split('/').every((name) => /^[\w.-]+$/.test(name) && name !== '.' && name !== '..');
}

function checkPaths({ files, graphs, embedding, tokens, principal_directions: principal }) {
  const opened = [...Object.values(graphs).map(({ file }) => file), principal.file];
  opened.push(...embedding.map(({ table }) => table.file));
  const folders = tokens.map(({ folder }) => folder);
  for (const path of [...Object.keys(files), ...opened, ...folders]) {
    if (!isSafe(path) || path === 'manifest.json')
      refuse(`names ${JSON.stringify(path)}, which is not a path below the bundle`);
  }
  const listed = (path) => Object.hasOwn(files, path),
    within = (folder) => Object.keys(files).some((path) => path.startsWith(`${folder}/`));
  const missing = [...opened.filter((path) => !listed(path)), ...folders.filter((folder) => !within(folder))];
  if (missing.length) refuse(`uses ${missing[0]} but does not list it among its files`);
  const width = embedding.reduce((sum, one) => sum + one.width, 0);
  if (principal.width !== width || principal.count < 1 || files[principal.file].bytes !== 4 * principal.count * width)
    refuse(`has ${principal.count} principal directions of ${principal.width} numbers, which ${principal.file} does not hold`);
  for (const { width, vocab_size: rows, table } of embedding) {
    const bytes = rows * width * (table.dtype === 'float16' ? 2 : 4);
    if (table.offset < 0 || String(table.shape) !== String([rows, width])) refuse('has a table of another shape');
    if (table.offset + bytes > files[table.file].bytes) refuse(`has a table beyond the end of ${table.file}`);
  }
}

/** The first key that an object of a correct JSON text has twice, or null. */
function keyGivenTwice(source) {
  const open = [];
  let last = null;
  for (const [token] of source.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (token !== ':') last = JSON.parse(token);
    else if (open.at(-1).has(last)) return last;
    else open.at(-1).add(last);
  }
  return null;
}
