/** Bundles in folders of this computer, for Node. */

import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { BundleError } from './bundle.js';

/** Files of a folder: a source for `openBundle`. */
export function inFolder(folder) {
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
