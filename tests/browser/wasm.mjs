// The engine's WebAssembly in Node, which has it without a window.

import { readFile } from "node:fs/promises";

import { ROOT } from "./server.mjs";

let copies = 0;

/** A new copy of the module: its exports, and `memory`, a function of the bytes that it takes, which never get fewer. */
export async function loadWasm() {
  const module = await import(`${ROOT}web/npm/wasm/headstart.js?${copies++}`);
  const { memory } = await module.default({ module_or_path: await readFile(`${ROOT}web/npm/wasm/headstart_bg.wasm`) });
  return { ...module, memory: () => memory.buffer.byteLength };
}

/** Makes `gpu` the WebGPU that `navigator` has; the engine asks for a window first. */
export function installGpu(gpu) {
  globalThis.Window ??= class Window {};
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { gpu } });
}
