/** The one error that this package throws. Its code survives the way through a worker and the engine. */

/**
 * - `no_webgpu`: this browser has no WebGPU, or in Node there is no package `webgpu`
 * - `insecure`: the page is neither from https nor from this machine, so the browser gives it no WebGPU and no storage
 * - `no_adapter`: there is WebGPU, and no graphics card or driver for it
 * - `old_node`: Node is older than this package needs
 * - `csp`: the page's Content-Security-Policy forbids what is needed: WebAssembly, a worker, or to read from an address; `directive`
 * - `trusted_types`: the page's Trusted Types forbid to start a worker from an address
 * - `worker`: the worker's script did not load, or is from another origin; `url`
 * - `device_lost`: the GPU was lost, and again each time it was made anew
 * - `out_of_memory`: the GPU had no room; `bytes` were asked for
 * - `bad_model`: the files are no model that can be run; `file` may name it
 * - `bad_request`: a request that cannot be served; `field` may name the field
 * - `bad_input`: an argument of this package that is of no use
 * - `shader`: a shader was refused
 * - `pack_rejected`: a prefix pack that is damaged or another model's
 * - `cors`: the server does not let pages of this origin read its files; `url`
 * - `download`: the connection failed or was cut, and again on each try; `url`
 * - `http_status`: the server said no; `url`, `status`
 * - `changed`: the file changed on the server, and again, while it was downloaded; `url`
 * - `quota_exceeded`: there is less room than is needed; `asked`, and `available` where it is known
 * - `storage`: the browser's storage failed, or the file system in Node
 * - `aborted`: a signal said so
 * - `disposed`: `dispose()` was called
 * - `internal`: a fault of this package
 */
export type ErrorCode =
  | "no_webgpu"
  | "insecure"
  | "no_adapter"
  | "old_node"
  | "csp"
  | "trusted_types"
  | "worker"
  | "device_lost"
  | "out_of_memory"
  | "bad_model"
  | "bad_request"
  | "bad_input"
  | "shader"
  | "pack_rejected"
  | "cors"
  | "download"
  | "http_status"
  | "changed"
  | "quota_exceeded"
  | "storage"
  | "aborted"
  | "disposed"
  | "internal";

/** What an error knows beside its code and message. */
export interface ErrorFields {
  url?: string;
  status?: number;
  file?: string;
  field?: string;
  directive?: string;
  bytes?: number;
  asked?: number;
  available?: number;
}

export class HeadstartError extends Error {
  override readonly name = "HeadstartError";
  readonly code: ErrorCode;
  readonly url?: string;
  readonly status?: number;
  readonly file?: string;
  readonly field?: string;
  /** With `csp`: what of the policy forbids it. */
  readonly directive?: string;
  /** With `out_of_memory`: what was asked for. */
  readonly bytes?: number;
  /** With `quota_exceeded`: bytes needed beyond what is kept, and bytes that the browser gives, where it says so. */
  readonly asked?: number;
  readonly available?: number;

  constructor(code: ErrorCode, message: string, fields: ErrorFields = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, fields);
  }
}

/** An error as plain data, for `postMessage`. */
export interface PlainError extends ErrorFields {
  code: ErrorCode;
  message: string;
}

const FIELDS = ["url", "status", "file", "field", "directive", "bytes", "asked", "available"] as const;

export function toPlain(error: HeadstartError): PlainError {
  return { code: error.code, message: error.message, ...fields(error) };
}

/** Whatever was thrown, as one of ours: the engine's `{ code, message }`, a plain error, an abort, or a fault. */
export function toError(thrown: unknown): HeadstartError {
  if (thrown instanceof HeadstartError) return thrown;
  const { code, message, name } = Object(thrown) as { code?: unknown; message?: unknown; name?: unknown };
  if (name === "AbortError") return aborted();
  const text = typeof message === "string" && message ? message : String(thrown);
  return typeof code === "string"
    ? new HeadstartError(code as ErrorCode, text, fields(thrown as ErrorFields))
    : new HeadstartError("internal", text, {}, thrown);
}

export function aborted(): HeadstartError {
  return new HeadstartError("aborted", "aborted by its signal");
}

export function disposed(): HeadstartError {
  return new HeadstartError("disposed", "dispose() was called; create another Headstart");
}

export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

function fields(from: ErrorFields): ErrorFields {
  return Object.fromEntries(FIELDS.filter((name) => from[name] !== undefined).map((name) => [name, from[name]]));
}
