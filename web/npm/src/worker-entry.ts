/** The script of the worker. */

import { openCore } from "./core/open.js";
import { type Port, serve } from "./core/remote.js";
import { loadWasm } from "./wasm/load.js";

serve(globalThis as unknown as Port, (options, onProgress) => openCore(options, loadWasm, onProgress, undefined));
