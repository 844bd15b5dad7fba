/** Loads the engine's WebAssembly. Default: the file beside this module. */

import { HeadstartError } from "../errors.js";
import type { CoreOptions } from "../core/core.js";
import type { WasmModule } from "../core/open.js";
import init, { Sha256, WasmEngine, createOptions, hubFile, hubName, judge } from "./headstart.js";

export async function loadWasm(source: CoreOptions["wasm"]): Promise<WasmModule> {
  const place = source ?? new URL("./headstart_bg.wasm", import.meta.url);
  try {
    await init({ module_or_path: place });
  } catch (error) {
    if (!compiles()) {
      const message = "this page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to its script-src, and to that of the worker's script";
      throw new HeadstartError("csp", message, { directive: "script-src" }, error);
    }
    const from = typeof place === "string" || place instanceof URL ? String(place) : "what was given as wasm";
    const message = `the engine's WebAssembly did not load from ${from}: ${String(error)}; serve headstart_bg.wasm there, or set wasm to its address`;
    throw new HeadstartError("download", message, {}, error);
  }
  return { WasmEngine, Sha256, createOptions, hubFile, hubName, judge };
}

/** Whether an empty module compiles. */
function compiles(): boolean {
  try {
    return !!new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
  } catch {
    return false;
  }
}
