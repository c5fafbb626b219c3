/** Runs a bundle's golden vectors in Node and prints one line of JSON: node verify.mjs BUNDLE [CALLS] */

import * as ort from '../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs';

import { BundleError, openBundle } from './bundle.js';
import { inFolder } from './folder.mjs';
import { verify } from './golden.js';

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
