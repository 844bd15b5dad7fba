// dist/: the compiled package, with the engine's WebAssembly beside it where it has been built (`make wasm`).
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = (...args) => execFileSync("node_modules/.bin/tsc", args, { cwd: root, stdio: "inherit" });

rmSync(`${root}dist`, { recursive: true, force: true });
// Comments belong to the types, not to what a page downloads.
tsc("--removeComments");
tsc("--declaration", "--emitDeclarationOnly");
for (const name of ["LICENSE-APACHE", "LICENSE-MIT"]) cpSync(`${root}../../${name}`, `${root}${name}`);

const listed = JSON.stringify(JSON.parse(readFileSync(`${root}../../models.json`, "utf8")));
writeFileSync(`${root}dist/library/listed.js`, `export const LISTED = ${listed};\n`);
cpSync(`${root}src/library/listed.d.ts`, `${root}dist/library/listed.d.ts`);

cpSync(`${root}src/wasm/headstart.d.ts`, `${root}dist/wasm/headstart.d.ts`);
const wasm = ["headstart.js", "headstart_bg.wasm"];
const missing = wasm.filter((name) => !existsSync(`${root}wasm/${name}`));
for (const name of wasm) if (!missing.includes(name)) cpSync(`${root}wasm/${name}`, `${root}dist/wasm/${name}`);
if (!missing.includes("headstart.js")) {
  const script = readFileSync(`${root}wasm/headstart.js`, "utf8");
  writeFileSync(`${root}dist/wasm/headstart.js`, script.replace(/^[ \t]*\/\*\*\n(?:[ \t]*\*.*\n)*?[ \t]*\*\/\n/gm, ""));
}
if (missing.length > 0) {
  console.warn(`web/npm/wasm has no ${missing.join(", ")}: the package was built without its engine; run \`make wasm\` first`);
  if (process.argv.includes("--require-wasm")) process.exit(1);
}
