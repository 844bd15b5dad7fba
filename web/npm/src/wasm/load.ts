/** Brings the engine's WebAssembly up, from beside this module unless another place is given. */

import { HeadstartError } from "../errors.js";
import type { CoreOptions } from "../core/core.js";
import init, { Sha256, WasmEngine } from "./headstart.js";

export async function loadWasm(source: CoreOptions["wasm"]): Promise<{ WasmEngine: typeof WasmEngine; Sha256: typeof Sha256 }> {
  const place = source ?? new URL("./headstart_bg.wasm", import.meta.url);
  try {
    await init({ module_or_path: place });
  } catch (error) {
    const from = typeof place === "string" || place instanceof URL ? String(place) : "what was given as wasm";
    const message = `the engine's WebAssembly did not load from ${from}: ${String(error)}; serve headstart_bg.wasm there or give its place as wasm`;
    throw new HeadstartError("download", message, {}, error);
  }
  return { WasmEngine, Sha256 };
}
