// The shipped build: nothing of the tests, no absolute address, a strict policy, and a bounded size.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
const files = readdirSync(DIST, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name));
const text = (file) => readFileSync(file, "utf8");
const html = text(join(DIST, "index.html"));

test("the build does not contain the test double", () => {
  const shipped = files.filter((file) => /\.(js|css|html|json)$/.test(file));
  assert.ok(shipped.length > 4);
  for (const file of shipped) assert.doesNotMatch(text(file), /Stand-in|__pwned|not played/, file);
  assert.ok(files.some((file) => file.endsWith(".wasm")), "the engine is");
});

test("every address is relative, so any folder of any host can serve the page", () => {
  const addresses = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, address]) => address);
  assert.ok(addresses.length >= 4);
  for (const address of addresses) assert.match(address, /^\.\//);
  for (const file of files.filter((name) => name.endsWith(".css"))) assert.doesNotMatch(text(file), /url\(|@import/, file);
});

test("the page's policy allows no foreign or inline script, style or image", () => {
  const policy = html.match(/http-equiv="Content-Security-Policy" content="([^"]*)"/)[1].replaceAll("&#39;", "'");
  const rules = Object.fromEntries(policy.split("; ").map((rule) => [rule.split(" ")[0], rule.split(" ").slice(1).join(" ")]));
  assert.equal(rules["default-src"], "'none'");
  assert.equal(rules["script-src"], "'self' 'wasm-unsafe-eval'");
  assert.equal(rules["style-src"], "'self'");
  assert.equal(rules["img-src"], "'self'");
  assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'/);
});

test("the build is small: the part of every visit, and the parts for code and formulas", () => {
  const scripts = files.filter((file) => file.endsWith(".js"));
  const weight = (some) => some.reduce((all, file) => all + gzipSync(readFileSync(file)).length, 0) / 1024;
  const first = scripts.filter((file) => html.includes(basename(file)) || /worker-entry/.test(file));
  const formulas = scripts.filter((file) => /formula-/.test(basename(file)));
  const code = scripts.filter((file) => !first.includes(file) && !formulas.includes(file));
  const [visit, colours, formula, style] = [first, code, formulas, files.filter((file) => file.endsWith(".css"))].map(weight);
  console.log(`gzip: JavaScript ${visit.toFixed(1)} kB, for code ${colours.toFixed(1)} kB in ${code.length} parts, for formulas ${formula.toFixed(1)} kB; CSS ${style.toFixed(1)} kB`);
  assert.ok(visit <= 90 && style <= 8, `${visit} kB of JavaScript, ${style} kB of CSS`);
  assert.ok(code.length > 10 && colours <= 60 && formulas.length === 1 && formula <= 70, `${colours} kB for code, ${formula} kB for formulas`);
});
