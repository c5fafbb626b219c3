/** Bundles in folders of this computer, for Node. */

import { lstat, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { BundleError } from './bundle.js';

/** Files of a folder: a source for `openBundle`. A file may be a link, as the hub's client makes them, a folder may not. */
export function inFolder(folder) {
  return async (path) => {
    const names = path.split('/'),
      unreadable = (error) => {
        throw new BundleError(`${path} cannot be read (${error.code}); give a folder made by edge-sdk export`);
      };
    for (let i = 1; i < names.length; i++) {
      const info = await lstat(join(folder, ...names.slice(0, i))).catch(unreadable);
      if (!info.isDirectory()) throw new BundleError(`${path} is below a link; copy the bundle as plain files`);
    }
    const file = join(folder, path);
    if (!(await stat(file).catch(unreadable)).isFile())
      throw new BundleError(`${path} is not a file; copy the bundle again`);
    return new Uint8Array(await readFile(file));
  };
}
