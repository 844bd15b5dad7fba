/**
 * The engine in this thread: one loop that steps it while there is work, for all answers together.
 *
 * The engine takes one call at a time, so every call passes one gate, in order; between two steps others get their turn,
 * and so does the event loop. When the device is lost a new engine is made from the same files, and each answer goes on
 * from its prompt and the tokens it has: the seed's draws are by index, so they are the same tokens.
 */

import { HeadstartError, disposed, toError, toPlain } from "../errors.js";
import type { CacheReport, CacheStats, ChatMessage, Explanation, PackInfo, RenderedPrompt, Rendering } from "../types.js";
import type { EngineInfo, EnginePrefix, EngineRequest, WasmEngine, WasmEvent } from "../wasm/headstart.js";
import type { AnswerEvent, Core, Sink } from "./core.js";

/** An answer on its way. */
interface Run {
  request: EngineRequest;
  sink: Sink;
  /** The engine's id of its sequence; undefined until it is submitted. */
  sequence?: number | undefined;
  prompt: number[];
  generated: number[];
  recovered: number;
}

/** Losses in a row, without a step that worked, after which no further device is asked for. */
const MAX_LOSSES = 3;

export interface Backing {
  /** Makes an engine from the model's files, again after each loss. */
  load(): Promise<WasmEngine>;
  store: (() => NonNullable<CacheStats["store"]>) | undefined;
  salt: string | undefined;
  /** Whether every request is computed whole. */
  noCache: boolean;
  close(): Promise<void>;
}

export class LocalCore implements Core {
  readonly info: EngineInfo;
  readonly #backing: Backing;
  readonly #runs = new Map<number, Run>();
  /** What was imported, to be imported again. */
  readonly #packs = new Set<{ pack: Blob; salt: string | undefined }>();
  #engine: WasmEngine;
  #gate: Promise<unknown> = Promise.resolve();
  #pumping = false;
  #losses = 0;
  /** Why nothing works any more. */
  #end: HeadstartError | undefined;

  private constructor(backing: Backing, engine: WasmEngine) {
    this.#backing = backing;
    this.#engine = engine;
    this.info = engine.info();
  }

  static async create(backing: Backing): Promise<LocalCore> {
    return new LocalCore(backing, await backing.load());
  }

  run(id: number, request: EngineRequest, sink: Sink): void {
    // A seed of its own, where none is given: an answer that is taken up again must draw as it would have.
    const seed = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
    const run: Run = { request: { seed, ...this.#salted(request) }, sink, prompt: [], generated: [], recovered: 0 };
    if (this.#backing.noCache) run.request.no_cache = true;
    this.#runs.set(id, run);
    this.#call(() => this.#runs.has(id) && this.#submit(run)).then(
      () => this.#pump(),
      (error: HeadstartError) => this.#finish(id, { type: "failed", error: toPlain(error) }),
    );
  }

  cancel(id: number): void {
    this.#call((engine) => {
      const sequence = this.#runs.get(id)?.sequence;
      if (sequence !== undefined) this.#dispatch(engine.cancel(sequence));
    }).catch((error: HeadstartError) => this.#finish(id, { type: "failed", error: toPlain(error) }));
  }

  tokenize(text: string): Promise<Uint32Array> {
    return this.#call((engine) => engine.tokenize(text));
  }

  detokenize(tokens: Uint32Array): Promise<string> {
    return this.#call((engine) => engine.detokenize(tokens));
  }

  renderPrompt(messages: readonly ChatMessage[], options: Rendering): Promise<RenderedPrompt> {
    return this.#call((engine) => engine.renderPrompt(messages, options));
  }

  warm(prefix: EnginePrefix): Promise<CacheReport> {
    return this.#steps((engine) => engine.warm(this.#salted(prefix)));
  }

  exportPack(prefix: EnginePrefix & { name?: string }): Promise<Uint8Array> {
    return this.#steps((engine) => engine.exportPack(this.#salted(prefix)));
  }

  async importPack(pack: Blob, cacheSalt: string | undefined): Promise<PackInfo> {
    const bytes = new Uint8Array(await pack.arrayBuffer());
    const salt = this.#salt(cacheSalt);
    const info = await this.#call((engine) => engine.importPack(bytes, salt));
    this.#packs.add({ pack, salt });
    return info;
  }

  explain(known: EnginePrefix, prompt: EnginePrefix): Promise<Explanation> {
    return this.#call((engine) => engine.explain(this.#salted(known), this.#salted(prompt)));
  }

  stats(): Promise<Omit<CacheStats, "packs">> {
    return this.#call((engine) => ({ ...engine.stats(), store: this.#backing.store?.() ?? null }));
  }

  clear(): Promise<void> {
    this.#packs.clear();
    return this.#call((engine) => engine.clear());
  }

  destroyDeviceForTest(): Promise<void> {
    return this.#call((engine) => engine.destroyDeviceForTest());
  }

  async dispose(): Promise<void> {
    if (this.#end?.code === "disposed") return;
    const broken = this.#end !== undefined;
    this.#fail(disposed());
    await this.#gate;
    try {
      if (!broken) await this.#engine.persist();
      this.#engine.free();
    } catch {
      // The device may be gone: then there is nothing to free, and what was not written is lost.
    }
    await this.#backing.close();
  }

  /** `work` in its turn, alone with the engine; once more with a new device where the old one was lost. */
  #call<T>(work: (engine: WasmEngine) => T | Promise<T>): Promise<T> {
    const turn = this.#gate.then(async () => {
      for (;;) {
        if (this.#end) throw this.#end;
        try {
          return await work(this.#engine);
        } catch (thrown) {
          const error = toError(thrown);
          if (error.code === "internal") this.#fail(error);
          if (error.code !== "device_lost") throw error;
          await this.#recover(error);
        }
      }
    });
    this.#gate = turn.catch(() => undefined);
    return turn;
  }

  /** As `#call`, for what takes steps itself: those may have brought other answers forward. */
  async #steps<T>(work: (engine: WasmEngine) => Promise<T>): Promise<T> {
    try {
      return await this.#call(work);
    } finally {
      void this.#pump();
    }
  }

  #salted<T extends { cache_salt?: string }>(request: T): T {
    const salt = this.#salt(request.cache_salt);
    return { ...request, ...(salt !== undefined && { cache_salt: salt }) };
  }

  /** The salt of all requests, narrowed by one request's. */
  #salt(narrower: string | undefined): string | undefined {
    const { salt } = this.#backing;
    return salt && narrower ? JSON.stringify([salt, narrower]) : salt || narrower || undefined;
  }

  #submit(run: Run): void {
    const { generated, prompt, request } = run;
    if (prompt.length > 0) {
      const { messages: _, prompt: __, ...rest } = request;
      run.sequence = this.#engine.submit({ ...rest, tokens: prompt, generated });
    } else {
      run.sequence = this.#engine.submit(request);
      run.prompt = Array.from(this.#engine.promptTokens(run.sequence));
    }
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (!this.#end && this.#engine.isBusy()) {
        await this.#call(async (engine) => {
          this.#dispatch(await engine.step());
          this.#losses = 0;
        });
        await breath();
      }
    } catch (thrown) {
      await this.#drop(toError(thrown));
    } finally {
      this.#pumping = false;
    }
  }

  /** After a step that failed, as for want of memory: ends the answers that it was for. */
  async #drop(error: HeadstartError): Promise<void> {
    const failed = { type: "failed", error: toPlain(error) } as const;
    const drop = (engine: WasmEngine) => {
      for (const [id, { sequence }] of [...this.#runs]) {
        if (sequence === undefined) continue;
        engine.cancel(sequence);
        this.#finish(id, failed);
      }
    };
    // An engine that cannot even do that is of no use; its answers have been ended by then.
    await this.#call(drop).catch(() => undefined);
  }

  #dispatch(events: readonly WasmEvent[]): void {
    for (const event of events) {
      for (const [id, run] of this.#runs) {
        if (run.sequence !== event.id) continue;
        if (event.type === "text") {
          if (event.token !== undefined) run.generated.push(event.token);
          if (event.text) run.sink({ type: "text", text: event.text });
        } else {
          const { reason, usage, warnings, cache, timings } = event;
          this.#finish(id, { type: "finish", reason, usage, warnings, cache, timings, recovered: run.recovered });
        }
        break;
      }
    }
  }

  #finish(id: number, event: AnswerEvent): void {
    const run = this.#runs.get(id);
    if (this.#runs.delete(id)) run!.sink(event);
  }

  /** Ends every answer, and every call from now on. */
  #fail(error: HeadstartError): void {
    this.#end = error;
    for (const id of [...this.#runs.keys()]) this.#finish(id, { type: "failed", error: toPlain(error) });
  }

  /** A new engine, with the packs and the answers of the old one. */
  async #recover(lost: HeadstartError): Promise<void> {
    for (;;) {
      if (++this.#losses > MAX_LOSSES) {
        this.#fail(lost);
        throw lost;
      }
      try {
        free(this.#engine);
        this.#engine = await this.#backing.load();
        await this.#importAgain();
        for (const run of this.#runs.values()) {
          if (run.sequence === undefined) continue;
          run.recovered++;
          this.#submit(run);
        }
        return;
      } catch (thrown) {
        const error = toError(thrown);
        if (error.code === "device_lost") continue;
        this.#fail(error);
        throw error;
      }
    }
  }

  /** A pack that is no longer taken costs a computed prefix. */
  async #importAgain(): Promise<void> {
    for (const entry of this.#packs) {
      try {
        this.#engine.importPack(new Uint8Array(await entry.pack.arrayBuffer()), entry.salt);
      } catch (thrown) {
        if (toError(thrown).code === "device_lost") throw thrown;
        this.#packs.delete(entry);
      }
    }
  }
}

function free(engine: WasmEngine): void {
  try {
    engine.free();
  } catch {
    // Freed before, by a recovery that did not get to its end.
  }
}

/** Lets the event loop do what else there is: messages, timers, frames. Unlike a timer it takes no 4 ms. */
function breath(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
