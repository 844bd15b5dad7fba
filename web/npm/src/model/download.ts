/**
 * One file over HTTP as chunks in order, from any byte on, over connections that may be cut.
 *
 * A cut connection is taken up again with a range; a server without ranges sends the whole file again, and what is known
 * is skipped. Both only while the file is the same one by its ETag, date or size. Costs: one request, and one a cut.
 */

import { HeadstartError, aborted, checkSignal } from "../errors.js";
import { refusal } from "./refusal.js";

export interface DownloadOptions {
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
  /** Hears of the bytes that arrive, and of how many there are in all where it is known. */
  advance?: (bytes: number, size: number | undefined) => void;
}

/** What a server says about a file; each undefined where it does not say, or may not say it to another origin. */
export interface FileState {
  size?: number | undefined;
  etag?: string | undefined;
  modified?: string | undefined;
}

const TRIES = 5;
const FIRST_PAUSE_MS = 250;
/** How long a connection may say nothing before it counts as cut. */
const STALL_MS = 30_000;
const HEAD_MS = 10_000;
/** Bytes that are read rather than asked for again. */
const LITTLE = 1 << 20;
const TRANSIENT = [408, 425, 429, 500, 502, 503, 504];

/** Whether two states can be of the same file: by the best that both sides say. */
export function same(a: FileState, b: FileState): boolean {
  if (a.size !== undefined && b.size !== undefined && a.size !== b.size) return false;
  if (a.etag && b.etag) return a.etag === b.etag;
  if (a.modified && b.modified) return a.modified === b.modified;
  return true;
}

/** The state of a file without its bytes; undefined if that cannot be learnt, as offline or from a server without HEAD. */
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
    // Some say 0 where they send nothing.
    return { ...state, size: state.size || undefined };
  } catch {
    checkSignal(signal);
    return undefined;
  }
}

export class Download {
  /** The file's state by the first answer. */
  state: FileState = {};
  readonly #url: string;
  readonly #options: DownloadOptions;
  #position = 0;
  /** Bytes to pass over, from a server that began before the position. */
  #skip = 0;
  /** Bytes that were looked at and not given yet. */
  readonly #ahead: Uint8Array<ArrayBuffer>[] = [];
  /** None while nothing is read. */
  #body: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  #connection = new AbortController();
  /** Whether the stream's end is the file's, wherever it comes: the size is unknown, or counts compressed bytes. */
  #openEnded = false;

  private constructor(url: string, options: DownloadOptions) {
    this.#url = url;
    this.#options = options;
  }

  /**
   * Connects, to read from byte `from` on. `known` is the state of the file that the bytes before are of; if the server
   * has another by now, the error has the code `changed`.
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

  /** Bytes from `offset` of a download that was opened at the file's beginning, before `chunks`, which gives them again. */
  async peek(offset: number, length: number): Promise<Uint8Array> {
    for (let held = this.#ahead.reduce((sum, chunk) => sum + chunk.length, 0); held < offset + length; ) {
      const chunk = await this.#next();
      if (!chunk) throw cut(this.#url, `it ended after ${held} bytes`);
      this.#ahead.push(chunk);
      held += chunk.length;
    }
    return new Uint8Array(await new Blob(this.#ahead).slice(offset, offset + length).arrayBuffer());
  }

  /** Lets the connection go until more is asked for, or takes what is left where that is little. */
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
        const answer = response.ok ? "with a page of HTML, as some do for what they have not" : String(response.status);
        problem = new HeadstartError("http_status", `${this.#url}: the server answered ${answer}`, {
          url: this.#url,
          status: response.status,
        });
        if (!TRANSIENT.includes(response.status)) throw problem;
      } catch (error) {
        if (error instanceof HeadstartError) throw error;
        problem = error;
        checkSignal(signal);
        // A second time: the first may have been a moment without a network.
        const refused = failures === 1 && (await refusal(this.#url, error));
        if (refused) throw refused;
      }
      if (++failures > TRIES) throw problem instanceof HeadstartError ? problem : cut(this.#url, problem);
      await pause(failures, signal);
    }
  }
}

/** All of a file, in this page's memory. */
export async function downloadAll(url: string, options: DownloadOptions): Promise<Blob> {
  const chunks: BlobPart[] = [];
  for await (const chunk of (await Download.open(url, 0, {}, options)).chunks()) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  checkSignal(options.signal);
  return new Blob(chunks);
}

/** What servers of single-page applications answer for any path that they do not know. */
function isPage(response: Response): boolean {
  return response.headers.get("content-type")?.startsWith("text/html") ?? false;
}

/** Where a partial answer begins; as asked for, where the server may not say it to another origin. */
function rangeBegin(response: Response, asked: number): number {
  const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
  return range ? Number(range[1]) : asked;
}

/** `begin`: where the answer's bytes begin in the file. */
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
  const message = `${url}: the connection failed (${cause instanceof Error ? cause.message : cause}); try again to go on`;
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
