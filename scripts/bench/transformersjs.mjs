// Transformers.js: ONNX Runtime as WebAssembly in Chromium, on the CPU or, with `--backend webgpu`, on WebGPU. It runs an ONNX
// export of the default model with 4-bit weights, like the GGUF's.

import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { absent, args, need, turns } from "./turn.mjs";

const home = ".cache/bench/npm/node_modules";
const gpu = args.backend === "webgpu";
const engine = gpu ? "Transformers.js, WebGPU" : "Transformers.js";
need(engine, [`${home}/@huggingface/transformers`], "scripts/bench.sh install web");
need(engine, [".cache/bench/onnx/model/config.json"], "scripts/bench.sh install onnx");
if (path.basename(args.model) !== "SmolLM2-135M-Instruct.Q4_1.gguf") absent(engine, "only the default model exists as ONNX");
const threads = os.availableParallelism();
const folders = {
  "/transformers/": `${home}/@huggingface/transformers/dist`,
  "/ort/": `${home}/onnxruntime-web/dist`,
  "/common/": `${home}/onnxruntime-common/dist/esm`,
  "/models/": ".cache/bench/onnx",
};
const imports = { "onnxruntime-web/webgpu": "/ort/ort.webgpu.bundle.min.mjs", "onnxruntime-common": "/common/index.js" };
const html = `<!doctype html><title>bench</title><script type="importmap">${JSON.stringify({ imports })}</script>`;

await turns(engine, { folders, html }, async (page) => {
  await page.evaluate(
    async ({ device, threads }) => {
      const { AutoModelForCausalLM, Tensor, env } = await import("/transformers/transformers.web.js");
      Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/models/", useBrowserCache: false });
      Object.assign(env.backends.onnx.wasm, { wasmPaths: "/ort/", numThreads: threads });
      const model = await AutoModelForCausalLM.from_pretrained("model", { dtype: "q4", device });
      globalThis.ask = async (prompt, answer) => {
        const shape = [1, prompt.length];
        const inputs = new Tensor("int64", BigInt64Array.from(prompt, BigInt), shape);
        const attention_mask = new Tensor("int64", new BigInt64Array(prompt.length).fill(1n), shape);
        // The streamer receives the prompt first.
        const at = [];
        const streamer = { put: () => at.push(performance.now()), end() {} };
        const began = performance.now();
        await model.generate({ inputs, attention_mask, max_new_tokens: answer, min_new_tokens: answer, do_sample: false, streamer });
        const first = at[1] - began;
        return { first, prefill: (prompt.length / first) * 1e3, decode: ((answer - 1) / (at.at(-1) - at[1])) * 1e3 };
      };
    },
    { device: gpu ? "webgpu" : "wasm", threads },
  );
  const ask = (prompt, answer) => page.evaluate(([prompt, answer]) => globalThis.ask(prompt, answer), [prompt, answer]);
  const { version } = JSON.parse(readFileSync(`${home}/@huggingface/transformers/package.json`));
  return { where: gpu ? "Chromium, WebGPU" : `Chromium, ${threads} threads`, version, ask, keeps: false };
});
