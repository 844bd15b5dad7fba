/**
 * One file over HTTP as chunks in order, from any byte on, over connections that may break.
 *
 * A broken connection is resumed with a range. A server without ranges sends the whole file again, and the known bytes are skipped. Both
 * happen only if the file is unchanged by its ETag, date or size. Cost: one request, and one more for each break.
 */

import { HeadstartError, aborted, checkSignal } from "../errors.js";
import { refusal } from "./refusal.js";

export interface DownloadOptions {
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
  /** Receives the number of bytes that arrived, and the size of the file if it is known. */
  advance?: (bytes: number, size: number | undefined) => void;
}

/** What a server tells about a file. A field is undefined if the server does not tell it, or if CORS hides it. */
export interface FileState {
  size?: number | undefined;
  etag?: string | undefined;
  modified?: string | undefined;
}

const TRIES = 5;
const FIRST_PAUSE_MS = 250;
/** How long a connection may be silent before it counts as broken. */
const STALL_MS = 30_000;
const HEAD_MS = 10_000;
/** Up to this many bytes are read to the end, rather than requested again. */
const LITTLE = 1 << 20;
const TRANSIENT = [408, 425, 429, 500, 502, 503, 504];

/** Whether two states can belong to the same file, by the best evidence that both have. */
export function same(a: FileState, b: FileState): boolean {
  if (a.size !== undefined && b.size !== undefined && a.size !== b.size) return false;
  if (a.etag && b.etag) return a.etag === b.etag;
  if (a.modified && b.modified) return a.modified === b.modified;
  return true;
}

/** The state of a file without its bytes; undefined if it is unknown, as offline or for a server without HEAD. */
export async function head(url: string, { headers, signal }: DownloadOptions): Promise<FileState | undefined> {
  try {
    const limit = AbortSignal.timeout(HEAD_MS);
    const response = await fetch(url, {
      method: "HEAD",
      cache: "no-store",
      ...(headers && { headers }),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    if (!response.ok || isPage(response)) return undefined;
    const state = stateOf(response, 0);
    // Some servers send a length of 0 for HEAD.
    return { ...state, size: state.size || undefined };
  } catch {
    checkSignal(signal);
    return undefined;
  }
}

export class Download {
  /** The file's state by the last response. */
  state: FileState = {};
  readonly #url: string;
  readonly #options: DownloadOptions;
  #position = 0;
  /** Bytes to skip, if the server began before the position. */
  #skip = 0;
  /** Bytes that `peek` has read and `chunks` has not returned yet. */
  readonly #ahead: Uint8Array<ArrayBuffer>[] = [];
  /** Undefined while there is no connection. */
  #body: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  #connection = new AbortController();
  /** Whether the end of the stream is the end of the file, because the size is unknown or counts compressed bytes. */
  #openEnded = false;

  private constructor(url: string, options: DownloadOptions) {
    this.#url = url;
    this.#options = options;
  }

  /**
   * Connects to read from byte `from` on. `known` is the state of the file of the earlier bytes. If the server now has another file, the
   * error has the code `changed`.
   */
  static async open(url: string, from: number, known: FileState, options: DownloadOptions): Promise<Download> {
    const download = new Download(url, options);
    download.#position = from;
    await download.#connect(known);
    return download;
  }

  /** The bytes from where it was opened. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      for (let chunk; (chunk = this.#ahead.shift() ?? (await this.#next())); ) yield chunk;
    } finally {
      this.close();
    }
  }

  /** Reads bytes at `offset` before `chunks` is used, which returns them again. The download must begin at byte 0. */
  async peek(offset: number, length: number): Promise<Uint8Array> {
    for (let held = this.#ahead.reduce((sum, chunk) => sum + chunk.length, 0); held < offset + length; ) {
      const chunk = await this.#next();
      if (!chunk) throw cut(this.#url, `it ended after ${held} bytes`);
      this.#ahead.push(chunk);
      held += chunk.length;
    }
    return new Uint8Array(await new Blob(this.#ahead).slice(offset, offset + length).arrayBuffer());
  }

  /** Closes the connection until more bytes are requested, or reads the rest if it is small. */
  async rest(): Promise<void> {
    if ((this.state.size ?? Infinity) - this.#position > LITTLE) return this.#drop();
    for (let chunk; (chunk = await this.#next()); ) this.#ahead.push(chunk);
  }

  close(): void {
    this.#connection.abort();
  }

  #drop(): void {
    this.#connection.abort();
    this.#body = undefined;
  }

  get #isWhole(): boolean {
    return !this.#openEnded && this.#position >= (this.state.size ?? 0);
  }

  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (let failures = 0; !this.#isWhole; ) {
      try {
        if (!this.#body) await this.#connect(this.state);
        const bytes = await this.#read();
        if (!bytes && !this.#openEnded) {
          throw new TypeError(`it ended after ${this.#position} of ${this.state.size} bytes`);
        }
        if (bytes) {
          this.#position += bytes.length;
          this.#options.advance?.(bytes.length, this.state.size);
        }
        return bytes;
      } catch (error) {
        if (error instanceof HeadstartError) throw error;
        checkSignal(this.#options.signal);
        if (++failures > TRIES) throw cut(this.#url, error);
        this.#drop();
        await pause(failures, this.#options.signal);
      }
    }
    return undefined;
  }

  async #read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (;;) {
      const timer = setTimeout(() => this.#connection.abort(), STALL_MS);
      const { value } = await this.#body!.read().finally(() => clearTimeout(timer));
      if (value === undefined || this.#skip === 0) return value;
      const skipped = Math.min(this.#skip, value.length);
      this.#skip -= skipped;
      if (skipped < value.length) return value.subarray(skipped);
    }
  }

  async #connect(known: FileState): Promise<void> {
    this.#connection.abort();
    this.#connection = new AbortController();
    const response = await this.#request();
    const begin = response.status === 206 ? rangeBegin(response, this.#position) : 0;
    this.state = stateOf(response, begin);
    this.#openEnded = this.state.size === undefined;
    if (!same(known, this.state) || response.status === 416 || begin > this.#position) {
      this.#connection.abort();
      throw new HeadstartError("changed", `${this.#url} changed while it was downloaded`, { url: this.#url });
    }
    this.#body = response.body!.getReader() as ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
    this.#skip = this.#position - begin;
  }

  async #request(): Promise<Response> {
    const { signal, headers } = this.#options;
    for (let failures = 0; ; ) {
      checkSignal(signal);
      let problem: unknown;
      try {
        const response = await fetch(this.#url, {
          cache: "no-store",
          headers: this.#position > 0 ? { ...headers, range: `bytes=${this.#position}-` } : { ...headers },
          signal: signal ? AbortSignal.any([signal, this.#connection.signal]) : this.#connection.signal,
        });
        const wanted = response.ok ? !isPage(response) : response.status === 416;
        if (wanted) return response;
        const answer = response.ok ? "with an HTML page, as some servers do for a missing file" : String(response.status);
        problem = new HeadstartError("http_status", `${this.#url}: the server answered ${answer}`, {
          url: this.#url,
          status: response.status,
        });
        if (!TRANSIENT.includes(response.status)) throw problem;
      } catch (error) {
        if (error instanceof HeadstartError) throw error;
        problem = error;
        checkSignal(signal);
        // Only after a second failure: the first one may be a short loss of the network.
        const refused = failures === 1 && (await refusal(this.#url, error));
        if (refused) throw refused;
      }
      if (++failures > TRIES) throw problem instanceof HeadstartError ? problem : cut(this.#url, problem);
      await pause(failures, signal);
    }
  }
}

/** Downloads a whole file into memory. */
export async function downloadAll(url: string, options: DownloadOptions): Promise<Blob> {
  const chunks: BlobPart[] = [];
  for await (const chunk of (await Download.open(url, 0, {}, options)).chunks()) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  checkSignal(options.signal);
  return new Blob(chunks);
}

/** Whether a response is an HTML page, which servers of single-page applications send for unknown paths. */
function isPage(response: Response): boolean {
  return response.headers.get("content-type")?.startsWith("text/html") ?? false;
}

/** Where a partial response begins; the requested byte, if CORS hides the header. */
function rangeBegin(response: Response, asked: number): number {
  const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
  return range ? Number(range[1]) : asked;
}

/** `begin`: where the response's bytes begin in the file. */
function stateOf(response: Response, begin: number): FileState {
  const { headers } = response;
  const length = headers.get("content-length");
  const encoded = (headers.get("content-encoding") ?? "identity") !== "identity";
  return {
    size: length === null || encoded ? undefined : begin + Number(length),
    etag: headers.get("etag")?.replace(/^W\//, ""),
    modified: headers.get("last-modified") ?? undefined,
  };
}

function cut(url: string, cause: unknown): HeadstartError {
  const message = `${url}: the connection failed (${cause instanceof Error ? cause.message : cause}); try again to resume`;
  return new HeadstartError("download", message, { url }, cause);
}

/** Twice as long after each failure. */
function pause(failures: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, FIRST_PAUSE_MS * 2 ** (failures - 1));
    signal?.addEventListener("abort", stop, { once: true });
  });
}
