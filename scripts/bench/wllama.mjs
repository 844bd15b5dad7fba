// wllama: llama.cpp as WebAssembly in Chromium, on the CPU or, with `--backend webgpu`, on WebGPU.

import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { args, need, turns } from "./turn.mjs";

const home = ".cache/bench/npm/node_modules/@wllama/wllama";
const gpu = args.backend === "webgpu";
const engine = gpu ? "wllama, WebGPU" : "wllama";
need(engine, [home], "scripts/bench.sh install web");
need(engine, [args.model], "make model");
const threads = os.availableParallelism();

// It accepts text alone, so a prompt is words that are one token each in any usual vocabulary.
const WORDS =
  "the of and to in a is that for it was on are as with his they be at one have this from or had by hot but some what there we can out other were all your when up use word how said an each she which do their time if will way about many then them would write like so these her long make thing see him two has look more day could go come did my sound no most number who over know water than call first people may down side been now find";

await turns(engine, { folders: { "/wllama/": path.join(home, "esm"), "/model/": path.dirname(args.model) } }, async (page) => {
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  await page.evaluate(
    async ({ file, context, threads, layers }) => {
      const { Wllama } = await import("/wllama/index.js");
      const blob = await (await fetch(`/model/${encodeURIComponent(file)}`)).blob();
      const log = { debug: console.log, log: console.log, warn: console.log, error: console.log };
      globalThis.engine = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { logger: log });
      await globalThis.engine.loadModel([blob], { n_ctx: context, n_threads: threads, n_gpu_layers: layers, n_parallel: 1 });
    },
    { file: path.basename(args.model), context: args.context, threads, layers: gpu ? 999 : 0 },
  );
  if (gpu && !said.some((line) => /WebGPU.*buffer size/i.test(line))) throw new Error("it found no usable WebGPU device (shader-f16) and would run on the CPU");
  const words = WORDS.split(" ");
  const ask = (prompt, answer, known = false) =>
    page.evaluate(
      async ({ prompt, answer, known }) => {
        const began = performance.now();
        let [first, last] = [undefined, undefined];
        const onData = (chunk) => {
          first ??= performance.now() - began;
          last = chunk.timings ?? last;
        };
        const how = { temperature: 0, top_k: 1, ignore_eos: true, timings_per_token: true, stream: true, onData };
        await globalThis.engine.createCompletion({ prompt, max_tokens: answer, cache_prompt: known, ...how });
        return { first, prefill: (last.prompt_n / last.prompt_ms) * 1e3, decode: (last.predicted_n / last.predicted_ms) * 1e3 };
      },
      { prompt: prompt.map((number) => ` ${words[number % words.length]}`).join(""), answer, known },
    );
  const { version } = JSON.parse(readFileSync(path.join(home, "package.json")));
  return { where: gpu ? "Chromium, WebGPU" : `Chromium, ${threads} threads`, version, ask, keeps: true };
});
