/** One answer as it comes: a queue between the engine's events and a reader, who may be slower, or leave. */

import { HeadstartError, aborted, toError } from "./errors.js";
import type { AnswerStream, RequestOptions } from "./types.js";
import type { AnswerEvent, Core } from "./core/core.js";
import type { EngineRequest } from "./wasm/headstart.js";

/** Chunks after which the core hears that they were read. Less than it lets lie unread, or both would wait. */
const TELL_EVERY = 16;

let ids = 0;

/** Ends what nobody can read any more. */
const abandoned = new FinalizationRegistry<Feed<unknown>>((feed) => feed.leave());

/** What was told of an answer and not read. The core holds this one, and not the `Answer`, which may be let go unread. */
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
          // What a listener throws is its own affair.
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

  /** For who reads no more. */
  leave(): void {
    this.abort();
    this.#end();
  }

  /** The next chunk; undefined behind the last. All that came before an error comes, and then the error. */
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

/** Runs a request; `make` gives the chunks of an event. */
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
    if (this.#isRead) throw new HeadstartError("bad_input", "a stream can be read once, and this one was; keep its chunks, or ask again");
    this.#isRead = true;
    const chunks = this.#chunks();
    const end = chunks.return.bind(chunks);
    // A generator that waits, or was never begun, would hear of it late or not at all.
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
