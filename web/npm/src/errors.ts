/** The one error that this package throws. Its code survives the way through a worker and the engine. */

import type { ErrorCode, ErrorFields } from "./types.js";

export class HeadstartError extends Error {
  override readonly name = "HeadstartError";
  readonly code: ErrorCode;
  readonly url?: string;
  readonly status?: number;
  readonly file?: string;
  readonly field?: string;
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

const FIELDS = ["url", "status", "file", "field", "bytes", "asked", "available"] as const;

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
