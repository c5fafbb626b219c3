// Extracts the layer drawings of @dicebear/pixel-art (designs CC0-1.0, code MIT) into one JSON file.
//
//   npm install @dicebear/pixel-art@9.4.3 && node layers.mjs > pixel_art_layers.json
//
// Each layer is an SVG fragment on a 16 x 16 grid in which a colour is written as {hair}, {skin}, ...
// so that the Python side can recolour and stack layers without Node.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const root = join(process.cwd(), "node_modules/@dicebear/pixel-art");
const { version } = JSON.parse(readFileSync(join(root, "package.json")));
const names = ["accessories", "clothing", "eyes", "glasses", "beard", "mouth", "hair", "hat", "skin"];
const colors = Object.fromEntries(names.map((name) => [name, `{${name}}`]));

const layers = {};
for (const file of readdirSync(join(root, "lib/components")).filter((f) => f.endsWith(".js") && f !== "index.js")) {
  const module = await import(pathToFileURL(join(root, "lib/components", file)));
  const part = file.replace(".js", "");
  layers[part] = Object.fromEntries(
    Object.entries(module[part]).map(([variant, draw]) => [variant, draw({}, colors)]),
  );
}
console.log(JSON.stringify({ source: `@dicebear/pixel-art ${version}`, license: "CC0-1.0", layers }, null, 1));
