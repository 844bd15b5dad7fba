/** One answer as it comes: a queue between the engine's events and a reader, who may be slower, or leave. */

import { HeadstartError, aborted, toError } from "./errors.js";
import type { AnswerStream, RequestOptions } from "./types.js";
import type { AnswerEvent, Core } from "./core/core.js";
import type { EngineRequest } from "./wasm/headstart.js";

let ids = 0;

/** Runs a request; `make` gives the chunks of an event. A reader gets all that came before an error, and then the error. */
export class Answer<T> implements AnswerStream<T> {
  readonly #core: Core;
  readonly #id = ++ids;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => {
    this.abort();
    this.#queue.length = 0;
    this.#end(aborted());
  };
  readonly #queue: T[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: HeadstartError | undefined;

  constructor(core: Core, request: EngineRequest, { signal, onPromptProgress }: RequestOptions, make: (event: AnswerEvent) => T[]) {
    this.#core = core;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort);
    core.run(this.#id, request, (event) => {
      if (this.#ended) return;
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

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        while (this.#queue.length > 0) yield this.#queue.shift()!;
        if (this.#error) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((wake) => (this.#wake = wake));
      }
    } finally {
      this.abort();
      this.#end();
    }
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

  #end(error?: HeadstartError): void {
    if (!this.#ended) this.#error = error;
    this.#ended = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#wake?.();
  }
}
