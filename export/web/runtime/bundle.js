/** Reading a bundle (../../README.md): every file is checked against the manifest before the runtime sees it. */

import { BundleError, decoded, parsed, parsedManifest } from './manifest.js';
import { inCalls } from './rows.js';
import { sha256 } from './sha256.js';

export { BundleError, isSafe } from './manifest.js';

/** Files below an address of this page's origin: a source for `openBundle`. */
export function fetched(base) {
  return async (path) => {
    const answer = await fetch(new URL(path, base));
    if (!answer.ok)
      throw new BundleError(`${path} is not there (${answer.status}); choose a bundle made by edge-sdk export`);
    return new Uint8Array(await answer.arrayBuffer());
  };
}

/**
 * Read the manifest.
 *
 * @param read path -> Promise<Uint8Array>
 * @param ort the module onnxruntime-web
 * @throws {BundleError} see `parsedManifest`
 */
export async function openBundle(read, ort) {
  return new Bundle(parsedManifest(await read('manifest.json')), read, ort);
}

export class Bundle {
  #read;
  #ort;
  #weights = null;

  constructor(manifest, read, ort) {
    this.manifest = manifest;
    this.#read = read;
    this.#ort = ort;
  }

  has(path) {
    return Object.hasOwn(this.manifest.files, path);
  }

  /**
   * A file's bytes.
   * @throws {BundleError} not in the manifest, or of another size or hash than there
   */
  async bytes(path) {
    if (!this.has(path)) throw new BundleError(`${path} is not in the manifest; make the bundle again`);
    const wanted = this.manifest.files[path],
      data = await this.#read(path);
    if (data.byteLength !== wanted.bytes) {
      throw new BundleError(
        `${path} has ${data.byteLength} bytes and must have ${wanted.bytes}; copy the bundle again`,
      );
    }
    if ((await sha256(data)) !== wanted.sha256) {
      throw new BundleError(`${path} has another sha256 than in the manifest; copy the bundle again`);
    }
    return data;
  }

  async json(path) {
    return parsed(decoded(await this.bytes(path), path), path);
  }

  /** The weight files, read once, whichever graph needs them first. */
  async weights() {
    const files = Object.entries(this.manifest.files).filter(([, { role }]) => role === 'weights');
    this.#weights ??= Promise.all(files.map(async ([path]) => ({ path, data: await this.bytes(path) })));
    return this.#weights;
  }

  /**
   * The vocabulary's principal directions, of the optimizer's variable: Float32Array of D, the longest first.
   * @throws {BundleError} see `bytes`
   */
  async principalDirections() {
    const { file, count, width } = this.manifest.principal_directions,
      data = await this.bytes(file);
    const values = new Float32Array(data.slice().buffer);
    return Array.from({ length: count }, (_, i) => values.subarray(i * width, (i + 1) * width));
  }

  /** Open a graph by its name. */
  async graph(name) {
    const described = this.manifest.graphs[name];
    if (!described) throw new BundleError(`the bundle has no graph ${name}; make it again`);
    const runtime = this.manifest.runtime?.['onnxruntime-web'] ?? this.manifest.runtime?.onnxruntime ?? {};
    const [model, externalData] = await Promise.all([this.bytes(described.file), this.weights()]);
    const session = await this.#ort.InferenceSession.create(model, {
      executionProviders: ['wasm'],
      externalData,
      enableCpuMemArena: runtime.enable_cpu_mem_arena ?? true,
      extra: nested(runtime.session ?? {}),
      logSeverityLevel: 3,
    });
    return new Graph(session, described, this.#ort, this.manifest.target !== undefined);
  }
}

/** {"session.a": "1"} as the runtime takes it: {session: {a: "1"}}. */
function nested(entries) {
  const out = {};
  for (const [key, value] of Object.entries(entries)) {
    const names = key.split('.'),
      last = names.pop();
    names.reduce((place, name) => (place[name] ??= {}), out)[last] = value;
  }
  return out;
}

const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };

/** A graph as a function. Sizes that are symbols in the manifest follow from the length of what is given. */
export class Graph {
  #session;
  #ort;
  #isFixed;

  /** @param isFixed whether it takes one number of rows only; `run` then takes any all the same */
  constructor(session, described, ort, isFixed = false) {
    this.#session = session;
    this.described = described;
    this.#ort = ort;
    this.#isFixed = isFixed;
  }

  /**
   * Run it.
   * @param inputs name -> {data: array of numbers (BigInt where int64), shape}
   * @returns {Promise<Object<string, {data: Float32Array, shape: number[]}>>}
   */
  async run(inputs) {
    return this.#isFixed ? inCalls((call) => this.#call(call), inputs, this.described) : this.#call(inputs);
  }

  async #call(inputs) {
    const feed = {};
    for (const [name, { dtype }] of Object.entries(this.described.inputs)) {
      const { data, shape } = inputs[name];
      feed[name] = new this.#ort.Tensor(dtype, ARRAYS[dtype].from(data), shape);
    }
    const found = await this.#session.run(feed),
      out = {};
    for (const [name, tensor] of Object.entries(found)) {
      out[name] = { data: tensor.data, shape: Array.from(tensor.dims) };
      tensor.dispose();
    }
    return out;
  }

  release() {
    return this.#session.release();
  }
}
