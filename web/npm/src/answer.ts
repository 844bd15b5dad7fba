/** One answer: a queue between the engine's events and a reader, who may be slower or may leave. */

import { HeadstartError, aborted, toError } from "./errors.js";
import type { AnswerStream, RequestOptions } from "./types.js";
import type { AnswerEvent, Core } from "./core/core.js";
import type { EngineRequest } from "./wasm/headstart.js";

/** The core is told about reads once per this many chunks. It is less than the core allows unread, or both would wait. */
const TELL_EVERY = 16;

let ids = 0;

/** Ends answers that nobody can read any more. */
const abandoned = new FinalizationRegistry<Feed<unknown>>((feed) => feed.leave());

/** The unread chunks of an answer. The core holds this object and not the `Answer`, so that a dropped `Answer` can be collected. */
class Feed<T> {
  /** Resolves once the engine has taken the request, and rejects where it does not. */
  readonly begun: Promise<void>;
  readonly #core: Core;
  readonly #id = ++ids;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => {
    this.abort();
    this.#queue.length = 0;
    this.#end(aborted());
  };
  readonly #queue: T[] = [];
  #begin!: (error: HeadstartError | undefined) => void;
  #wake: (() => void) | undefined;
  #read = 0;
  #ended = false;
  #error: HeadstartError | undefined;

  constructor(core: Core, request: EngineRequest, { signal, onPromptProgress }: RequestOptions, make: (event: AnswerEvent) => T[]) {
    this.#core = core;
    this.#signal = signal;
    this.begun = new Promise((resolve, reject) => (this.#begin = (error) => (error ? reject(error) : resolve())));
    signal?.addEventListener("abort", this.#onAbort);
    core.run(this.#id, request, (event) => {
      if (this.#ended) return;
      if (event.type === "begun") return this.#begin(undefined);
      if (event.type === "failed") return this.#end(toError(event.error));
      if (event.type === "progress") {
        const { done, total } = event;
        try {
          onPromptProgress?.({ done, total });
        } catch {
          // An exception of the listener does not end the answer.
        }
        return;
      }
      this.#queue.push(...make(event));
      if (event.type === "finish") this.#end();
      this.#wake?.();
    });
  }

  abort(): void {
    if (!this.#ended) this.#core.cancel(this.#id);
  }

  /** For a reader that stops reading. */
  leave(): void {
    this.abort();
    this.#end();
  }

  /** The next chunk; undefined after the last one. An error is thrown after all chunks that came before it. */
  async next(): Promise<T | undefined> {
    while (this.#queue.length === 0) {
      if (this.#error) throw this.#error;
      if (this.#ended) return undefined;
      await new Promise<void>((wake) => (this.#wake = wake));
    }
    if (++this.#read % TELL_EVERY === 0 && !this.#ended) this.#core.read(this.#id, TELL_EVERY);
    return this.#queue.shift();
  }

  #end(error?: HeadstartError): void {
    if (!this.#ended) this.#error = error;
    this.#ended = true;
    this.#begin(error);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#wake?.();
  }
}

/** Runs a request. `make` turns an event into chunks. */
export class Answer<T> implements AnswerStream<T> {
  readonly #feed: Feed<T>;
  #isRead = false;

  constructor(core: Core, request: EngineRequest, options: RequestOptions, make: (event: AnswerEvent) => T[]) {
    this.#feed = new Feed(core, request, options, make);
    abandoned.register(this, this.#feed);
  }

  /** Resolves once the engine has taken the request, and rejects where it does not. */
  get begun(): Promise<void> {
    return this.#feed.begun;
  }

  abort(): void {
    this.#feed.abort();
  }

  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    if (this.#isRead) throw new HeadstartError("bad_input", "a stream can be read once; keep its chunks, or send the request again");
    this.#isRead = true;
    const chunks = this.#chunks();
    const end = chunks.return.bind(chunks);
    // A generator that is waiting or has not started would run its `finally` late or never.
    chunks.return = (value) => {
      this.#feed.leave();
      return end(value);
    };
    return chunks;
  }

  toReadableStream(): ReadableStream<T> {
    const chunks = this[Symbol.asyncIterator]();
    return new ReadableStream<T>({
      pull: async (controller) => {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void (await chunks.return()),
    });
  }

  async *#chunks(): AsyncGenerator<T, void, undefined> {
    try {
      for (let chunk; (chunk = await this.#feed.next()) !== undefined; ) yield chunk;
    } finally {
      this.#feed.leave();
    }
  }
}
