/** The only error class of this package. Its code stays the same through a worker and the engine. */

/**
 * - `no_webgpu`: the browser has no WebGPU, or Node has no package `webgpu`
 * - `insecure`: the page comes neither from https nor from this machine, so the browser offers it no WebGPU and no storage
 * - `no_adapter`: WebGPU finds no graphics card or driver
 * - `old_node`: Node is older than this package needs
 * - `csp`: the page's Content-Security-Policy forbids WebAssembly, a worker, or reading from an address; `directive`
 * - `trusted_types`: the page's Trusted Types forbid the worker's address
 * - `worker`: the worker's script did not load, or is from another origin; `url`
 * - `device_lost`: the GPU was lost, and again after each restart
 * - `out_of_memory`: the GPU has no room; `bytes` were requested
 * - `bad_model`: the files are no model that can run; `file` may name one
 * - `bad_request`: a request is invalid; `field` may name the field
 * - `bad_input`: an argument is invalid
 * - `shader`: the browser refused a shader
 * - `pack_rejected`: a prefix pack is damaged or belongs to another model
 * - `cors`: the server does not let pages of this origin read its files; `url`
 * - `download`: the connection failed on every try; `url`
 * - `http_status`: the server refused; `url`, `status`
 * - `changed`: the file changed on the server during the download, more than once; `url`
 * - `quota_exceeded`: there is less room than needed; `asked`, and `available` if known
 * - `storage`: the browser's storage failed, or the file system in Node
 * - `aborted`: a signal ended the call
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

/** Fields of an error beside its code and message. */
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
  /** With `csp`: the directive that forbids it. */
  readonly directive?: string;
  /** With `out_of_memory`: the bytes that were requested. */
  readonly bytes?: number;
  /** With `quota_exceeded`: bytes needed beyond what is kept, and bytes that the browser allows, if it tells them. */
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

/** Turns any thrown value into a `HeadstartError`: the engine's `{ code, message }`, a plain error, an abort, or a fault. */
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
  if (signal && !signal.throwIfAborted) throw new HeadstartError("bad_input", "signal: must be an AbortSignal", { field: "signal" });
  if (signal?.aborted) throw aborted();
}

function fields(from: ErrorFields): ErrorFields {
  return Object.fromEntries(FIELDS.filter((name) => from[name] !== undefined).map((name) => [name, from[name]]));
}
