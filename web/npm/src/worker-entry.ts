/** The script of the worker. */

import { openCore } from "./core/open.js";
import { type Port, serve } from "./core/remote.js";
import { loadWasm } from "./wasm/load.js";
import { withSubgroups } from "./webgpu.js";

// Nothing but the engine runs here, which takes WebGPU from `navigator`.
const { gpu } = Object(globalThis.navigator) as { gpu?: object };
if (gpu) Object.defineProperty(navigator, "gpu", { configurable: true, value: withSubgroups(gpu) });

serve(globalThis as unknown as Port, (options, onProgress) => openCore(options, loadWasm, onProgress, undefined));
