// The packed package as users install it: its files, size and types, and an answer in each kind of page.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { open } from "../../../../tests/browser/browsers.mjs";
import { samples } from "../support/readme.mjs";
import { serveFolders } from "../support/site.mjs";
import { tinyModel } from "../support/tiny.mjs";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const CONSUMERS = fileURLToPath(new URL(".", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "headstart-consumers-"));
function npm(cwd, ...args) {
  try {
    return execFileSync("npm", [...args, "--no-audit", "--no-fund", "--loglevel=error"], { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  } catch (error) {
    throw new Error(`${error.message}\n${error.stdout}`, { cause: error });
  }
}

let tarball, browser;
before(async () => {
  // The build may print lines before the JSON.
  const said = npm(PACKAGE, "pack", "--json", "--pack-destination", scratch);
  const [{ filename }] = JSON.parse(said.slice(said.indexOf("[\n")));
  tarball = join(scratch, filename);
  browser = await open("chromium");
});
after(async () => {
  await browser?.close();
  rmSync(scratch, { recursive: true, force: true });
});

/** A project made from a template, with the package installed from the tarball. */
function install(name) {
  const folder = join(scratch, name);
  cpSync(join(CONSUMERS, name), folder, { recursive: true });
  npm(folder, "install", tarball);
  return folder;
}

async function answers(mounts) {
  const server = await serveFolders({ ...mounts, "/model/": tinyModel() });
  const page = await browser.newPage();
  const said = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  try {
    await page.goto(server.origin);
    await page.waitForFunction(() => document.body.dataset.result, undefined, { timeout: 600_000 });
    const result = JSON.parse(await page.evaluate(() => document.body.dataset.result));
    assert.equal(result.error, undefined, said.join("\n"));
    const { answer, stages } = result;
    assert.equal(answer.usage.completion_tokens, 8);
    assert.equal(answer.usage.prompt_tokens, 29);
    // The first eight tokens that the native engine gives.
    assert.equal(answer.choices[0].message.content, "JJJJGC\u000b<w309>");
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.deepEqual(stages.sort(), ["compile", "download", "upload"]);
    assert.ok(await page.evaluate(() => !self.crossOriginIsolated));
    assert.deepEqual(said.filter((text) => /Content Security Policy|Refused/.test(text)), []);
  } catch (error) {
    throw new Error(`${error.message}\n${said.join("\n")}`, { cause: error });
  } finally {
    await page.close();
    await server.close();
  }
}

test("the tarball holds the needed files alone, within its size", () => {
  const names = execFileSync("tar", ["tzf", tarball], { encoding: "utf8" }).trim().split("\n").map((name) => name.replace("package/", ""));
  for (const name of ["package.json", "README.md", "CHANGELOG.md", "LICENSE-MIT", "dist/index.js", "dist/index.d.ts", "dist/node.js", "dist/node.d.ts", "dist/worker-entry.js", "dist/ai.js", "dist/wasm/headstart_bg.wasm"]) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  assert.deepEqual(names.filter((name) => !/^(package\.json|(README|CHANGELOG)\.md|LICENSE-\w+|dist\/.*\.(js|d\.ts|wasm))$/.test(name)), []);
  const read = (name) => readFileSync(join(PACKAGE, name));
  const { exports, ...told } = JSON.parse(read("package.json"));
  for (const field of ["description", "engines", "keywords", "license", "main", "types"]) assert.ok(told[field], `${field} of the package is missing`);
  for (const [entry, target] of Object.entries(exports)) {
    const files = typeof target === "string" ? [target] : Object.values(target);
    for (const file of files) assert.ok(names.includes(file.replace("./", "")), `${entry}: ${file} is missing`);
    assert.ok(typeof target === "string" || Object.keys(target)[0] === "types", `${entry}: its types come first`);
  }
  const forPages = names.filter((name) => name.endsWith(".js") && !/^dist\/node(\.js$|\/)/.test(name));
  const script = forPages.reduce((sum, name) => sum + gzipSync(read(name), { level: 9 }).length, 0);
  const wasm = read("dist/wasm/headstart_bg.wasm");
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: wasm.length, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const module = brotliCompressSync(wasm, { params: quality }).length;
  console.log(`JavaScript ${script} bytes gzip, WebAssembly ${module} bytes brotli, tarball ${statSync(tarball).size} bytes`);
  assert.ok(script <= 40_000, `${script} bytes of JavaScript after gzip, at most 40000`);
  assert.ok(module <= 1_500_000, `${module} bytes of WebAssembly after brotli, at most 1500000`);
});

/** A sample as a module. A sample that names options must name all of them. */
function whole(sample) {
  const options = /^Headstart\.create\((\{.*\})\)/.exec(sample)?.[1];
  return `${options ? `const ${options} = options;\n(${options}) satisfies typeof options;\n` : ""}${sample}\nexport {};\n`;
}

test("the types compile in a strict project, as do the samples of both READMEs", () => {
  const folder = install("types");
  const [, example] = readFileSync(join(PACKAGE, "../../README.md"), "utf8").match(/```ts\n([^]*?)```/);
  writeFileSync(join(folder, "readme.ts"), example);
  assert.ok(samples.length >= 6, `${samples.length} samples`);
  for (const [index, code] of samples.entries()) writeFileSync(join(folder, `sample-${index}.ts`), whole(code));
  npm(folder, "run", "build");
});

test("a Vite app answers", async () => {
  const folder = install("vite");
  npm(folder, "run", "build");
  await answers({ "/": join(folder, "dist") });
});

test("a webpack app answers", async () => {
  const folder = install("webpack");
  npm(folder, "run", "build");
  cpSync(join(folder, "index.html"), join(folder, "dist/index.html"));
  await answers({ "/": join(folder, "dist") });
});

test("a page without a build step answers", async () => {
  const folder = install("plain");
  await answers({ "/": folder });
});
