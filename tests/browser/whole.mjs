// Measures a whole model of real size with random weights: seconds, and the peak memory of the engine's module. The file is created in
// the build folder and removed afterwards. On a CPU this takes minutes.
//
//     node tests/browser/whole.mjs [node|chromium|firefox] [prompt tokens] [tokens answered]

import { randomBytes } from "node:crypto";
import { open as openFile, rm } from "node:fs/promises";
import path from "node:path";

import { open } from "./browsers.mjs";
import { SHAPES, largeModel } from "./large.mjs";
import { ROOT, serve } from "./server.mjs";

const [where = "node", prompt = "4", answer = "3"] = process.argv.slice(2);
const NAME = "whole.gguf";
const FILE = path.join(path.resolve(ROOT, process.env.MADE ?? "target"), NAME);
const CONTEXT = 2048;
const MIB = 1 << 20;
const PIECE = 4 * MIB;

/** Blocks of noise with small scales, so that activations stay finite: 0.006 and 0.0003 as f16. */
const SCALES = { q4_0: [18, 0x1e25], q8_0: [34, 0x0cea] };

function noise(type) {
  const [bytes, scale] = SCALES[type];
  const piece = randomBytes(Math.floor(PIECE / bytes) * bytes);
  for (let at = 0; at < piece.length; at += bytes) piece.writeUInt16LE(scale, at);
  return piece;
}

async function make() {
  const { header, tensors } = largeModel(SHAPES["1B, 128k tokens"]);
  const pieces = Object.fromEntries(Object.keys(SCALES).map((type) => [type, noise(type)]));
  const file = await openFile(FILE, "w");
  try {
    await file.write(header, 0, header.length, 0);
    for (const { type, offset, bytes } of tensors) {
      const piece = pieces[type] ?? Buffer.from(new Float32Array(bytes / 4).fill(1).buffer);
      for (let done = 0; done < bytes; done += piece.length) {
        await file.write(piece, 0, Math.min(piece.length, bytes - done), offset + done);
      }
    }
  } finally {
    await file.close();
  }
}

const tokens = Array.from({ length: Number(prompt) }, (_, at) => 300 + at * 977);
const seconds = (since) => Number(((performance.now() - since) / 1000).toFixed(1));

async function inNode() {
  const { Headstart } = await import(`${ROOT}web/npm/dist/node.js`);
  const { default: init } = await import(`${ROOT}web/npm/dist/wasm/headstart.js`);
  let began = performance.now();
  const headstart = await Headstart.create({ model: FILE, context: CONTEXT, cache: false });
  const load_s = seconds(began);
  // Returns the module that is already loaded.
  const memory = async () => Math.round((await init()).memory.buffer.byteLength / MIB);
  const loaded_mib = await memory();
  began = performance.now();
  const { usage, headstart: account } = await headstart.completions.create({ prompt: tokens, max_tokens: Number(answer) });
  const answer_s = seconds(began);
  const peak_mib = await memory();
  await headstart.dispose();
  return { load_s, answer_s, tokens: usage.completion_tokens, timings: account.timings, loaded_mib, peak_mib };
}

async function inBrowser(name) {
  const server = await serve();
  const browser = await open(name);
  try {
    const { page } = browser;
    await page.goto(`${server.origin}/page/index.html`);
    await page.waitForFunction(() => globalThis.ready);
    const call = (method, ...rest) => page.evaluate(([method, rest]) => globalThis.hs[method](...rest), [method, rest]);
    const { engine, ms, memory } = await call("load", [`/made/${NAME}`], { context: CONTEXT });
    const began = performance.now();
    const told = await call("answer", engine, { tokens, max_tokens: Number(answer), no_cache: true });
    if (told.error) throw new Error(JSON.stringify(told.error));
    const answer_s = seconds(began);
    const [loaded_mib, peak_mib] = [memory, await call("memory")].map((bytes) => Math.round(bytes / MIB));
    return { load_s: Math.round(ms / 100) / 10, answer_s, tokens: told.tokens.length, timings: told.finish.timings, loaded_mib, peak_mib };
  } finally {
    await browser.close();
    server.close();
  }
}

try {
  await make();
  console.log(JSON.stringify({ where, ...(where === "node" ? await inNode() : await inBrowser(where)) }));
} finally {
  await rm(FILE, { force: true });
}
