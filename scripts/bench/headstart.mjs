// headstart's own WebAssembly in Chromium, over WebGPU.

import { readFileSync } from "node:fs";
import path from "node:path";

import { args, need, turns } from "./turn.mjs";

const engine = "headstart, Chromium";
need(engine, ["web/npm/wasm/headstart_bg.wasm"], "make wasm");
need(engine, [args.model], "make model");
const folders = { "/wasm/": "web/npm/wasm", "/page/": "tests/browser/page", "/model/": path.dirname(args.model) };
const html = '<!doctype html><title>bench</title><script type="module" src="/page/page.js"></script>';

await turns(engine, { folders, html }, async (page) => {
  await page.waitForFunction(() => globalThis.ready);
  const call = (method, ...rest) => page.evaluate(([method, rest]) => globalThis.hs[method](...rest), [method, rest]);
  const { engine: at, info } = await call("load", [`/model/${encodeURIComponent(path.basename(args.model))}`], { context: args.context });
  const ask = async (tokens, max_tokens, known = false) => {
    const { finish, error } = await call("answer", at, { tokens, max_tokens, no_cache: !known });
    if (error) throw new Error(error.message);
    const { ttft_ms, prefill_tok_s, decode_tok_s } = finish.timings;
    return { first: ttft_ms, prefill: prefill_tok_s, decode: decode_tok_s };
  };
  const { version } = JSON.parse(readFileSync("web/npm/package.json"));
  return { where: `Chromium, ${info.adapter.driver || "WebGPU"}`, version, ask, keeps: true };
});
