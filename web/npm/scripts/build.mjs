// dist/: the compiled package with the engine's WebAssembly, which `make wasm` builds. `--without-wasm` makes do without it, for tests
// that have an engine of their own.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { shorten } from "./shorten.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = (...args) => execFileSync("node_modules/.bin/tsc", args, { cwd: root, stdio: "inherit" });

const wasm = ["headstart.js", "headstart_bg.wasm"];
const missing = wasm.filter((name) => !existsSync(`${root}wasm/${name}`));
if (missing.length > 0 && !process.argv.includes("--without-wasm")) {
  console.error(`web/npm/wasm has no ${missing.join(", ")}: run \`make wasm\` first`);
  process.exit(1);
}

rmSync(`${root}dist`, { recursive: true, force: true });
// Comments belong to the types, not to what a page downloads.
tsc("--removeComments");
tsc("--declaration", "--emitDeclarationOnly");
for (const name of ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"]) cpSync(`${root}../../${name}`, `${root}${name}`);

const listed = JSON.stringify(JSON.parse(readFileSync(`${root}../../models.json`, "utf8")));
writeFileSync(`${root}dist/model/listed.js`, `export const LISTED = ${listed};\n`);
cpSync(`${root}src/model/listed.d.ts`, `${root}dist/model/listed.d.ts`);

cpSync(`${root}src/wasm/headstart.d.ts`, `${root}dist/wasm/headstart.d.ts`);
if (missing.length === 0) {
  const [script, module] = wasm.map((name) => readFileSync(`${root}wasm/${name}`));
  const short = shorten(script.toString(), module);
  for (const [index, name] of wasm.entries()) writeFileSync(`${root}dist/wasm/${name}`, short[index]);
}

// Pages do not need the indentation either, and no string of the package spans lines. A module of types alone is empty, and nothing
// imports it.
for (const name of readdirSync(`${root}dist`, { recursive: true }).filter((name) => name.endsWith(".js"))) {
  const script = readFileSync(`${root}dist/${name}`, "utf8").replace(/^[ \t]+/gm, "");
  if (script.trim() === "export {};") rmSync(`${root}dist/${name}`);
  else writeFileSync(`${root}dist/${name}`, script);
}
