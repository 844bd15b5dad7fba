// Loads the engine's WebAssembly in Node.

import { readFile } from "node:fs/promises";

import { ROOT } from "./server.mjs";

let copies = 0;

/** A new copy of the module: its exports, and `memory`, which returns the bytes of its memory. The memory never shrinks. */
export async function loadWasm() {
  const module = await import(`${ROOT}web/npm/wasm/headstart.js?${copies++}`);
  const { memory } = await module.default({ module_or_path: await readFile(`${ROOT}web/npm/wasm/headstart_bg.wasm`) });
  return { ...module, memory: () => memory.buffer.byteLength };
}

/** Sets `navigator.gpu`. The engine also checks for a `Window`. */
export function installGpu(gpu) {
  globalThis.Window ??= class Window {};
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { gpu } });
}
