/** Runs a bundle's golden vectors in Node and prints one line of JSON: node verify.mjs BUNDLE [CALLS] */

import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as ort from 'onnxruntime-web';

import { BundleError, openBundle } from './bundle.js';
import { verify } from './golden.js';

/** Files of a folder: a source for `openBundle`. */
function inFolder(folder) {
  return async (path) => {
    let at = folder;
    for (const name of path.split('/')) {
      at = join(at, name);
      const info = await lstat(at).catch((error) => {
        throw new BundleError(`${path} cannot be read (${error.code}); give a folder made by edge-sdk export`);
      });
      if (info.isSymbolicLink()) throw new BundleError(`${path} is a link; copy the bundle as plain files`);
    }
    return new Uint8Array(await readFile(at));
  };
}

const [folder, calls = '1'] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';
try {
  if (!folder) throw new BundleError('no folder is given; run node verify.mjs BUNDLE');
  const bundle = await openBundle(inFolder(folder), ort);
  const found = await verify(bundle, Number(calls));
  console.log(
    JSON.stringify({ runtime: `onnxruntime-web ${ort.env.versions.web} in Node ${process.versions.node}`, ...found }),
  );
} catch (error) {
  console.error(error instanceof BundleError ? error.message : error);
  process.exitCode = error instanceof BundleError ? 2 : 1;
}
