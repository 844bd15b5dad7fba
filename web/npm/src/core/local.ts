/**
 * The engine in this thread: one loop that steps it while there is work, for all answers together.
 *
 * The engine takes one call at a time, so every call that needs the GPU passes one gate in order. Between two steps other calls and
 * the event loop get their turn. Calls that need no GPU go to the engine's host at once. The engine itself recovers from a lost device
 * and continues its answers.
 */

import { type HeadstartError, disposed, toError, toPlain } from "../errors.js";
import type { AuditOptions, CacheReport, CacheStats, ChatMessage, Explanation, ImportOptions, PackAudit, PackInfo, RenderedPrompt, Rendering, Tokens } from "../types.js";
import type { EngineInfo, EnginePrefix, EngineRequest, WasmEngine, WasmEvent, WasmHost } from "../wasm/headstart.js";
import type { AnswerEvent, Core, Sink } from "./core.js";

/** An answer that has not ended, with the engine's id of it, which is undefined until it is submitted. */
interface Run {
  sink: Sink;
  answer?: number;
  /** Pieces of its text that nobody has read yet. */
  unread: number;
}

/** Unread pieces of text at which an answer pauses. */
const MOST_UNREAD = 64;

export interface Backing {
  /** Makes an engine from the model's files. */
  load(): Promise<WasmEngine>;
  store: (() => NonNullable<CacheStats["store"]>) | undefined;
  salt: string | null;
  /** Whether every prompt is computed as a whole. */
  noCache: boolean;
  close(): Promise<void>;
}

export class LocalCore implements Core {
  readonly info: EngineInfo;
  readonly #backing: Backing;
  readonly #engine: WasmEngine;
  readonly #host: WasmHost;
  readonly #runs = new Map<number, Run>();
  /** The callers' ids by the engine's ids. */
  readonly #callers = new Map<number, number>();
  #gate: Promise<unknown> = Promise.resolve();
  #pumping = false;
  /** Why every call now fails. */
  #end: HeadstartError | undefined;

  private constructor(backing: Backing, engine: WasmEngine) {
    this.#backing = backing;
    this.#engine = engine;
    this.#host = engine.host();
    this.info = engine.info();
  }

  static async create(backing: Backing): Promise<LocalCore> {
    return new LocalCore(backing, await backing.load());
  }

  run(id: number, request: EngineRequest, sink: Sink): void {
    const run: Run = { sink, unread: 0 };
    const asked = { ...this.#salted(request), ...(this.#backing.noCache && { no_cache: true }) };
    this.#runs.set(id, run);
    const submit = (engine: WasmEngine) => {
      if (!this.#runs.has(id)) return;
      run.answer = engine.submit(asked);
      this.#callers.set(run.answer, id);
      sink({ type: "begun" });
    };
    this.#call(submit).then(
      () => this.#pump(),
      (error: HeadstartError) => this.#finish(id, { type: "failed", error: toPlain(error) }),
    );
  }

  read(id: number, pieces: number): void {
    const run = this.#runs.get(id);
    if (!run) return;
    const before = run.unread;
    run.unread -= pieces;
    if (before >= MOST_UNREAD && run.unread < MOST_UNREAD) this.#hold(run, false);
  }

  cancel(id: number): void {
    this.#call((engine) => {
      const answer = this.#runs.get(id)?.answer;
      if (answer !== undefined) this.#dispatch(engine.cancel(answer));
    }).catch((error: HeadstartError) => this.#finish(id, { type: "failed", error: toPlain(error) }));
  }

  tokenize(text: string): Promise<Uint32Array> {
    return this.#aside((host) => host.tokenize(text));
  }

  detokenize(tokens: Tokens): Promise<string> {
    return this.#aside((host) => host.detokenize(tokens));
  }

  renderPrompt(messages: readonly ChatMessage[], options: Rendering): Promise<RenderedPrompt> {
    return this.#aside((host) => host.renderPrompt(messages, options));
  }

  warm(prefix: EnginePrefix): Promise<CacheReport> {
    return this.#steps((engine) => engine.warm(this.#salted(prefix)));
  }

  exportPack(prefix: EnginePrefix & { name?: string }): Promise<Uint8Array> {
    return this.#steps((engine) => engine.exportPack(this.#salted(prefix)));
  }

  async importPack(pack: Blob, options: ImportOptions): Promise<PackInfo> {
    const bytes = new Uint8Array(await pack.arrayBuffer());
    return this.#call((engine) => engine.importPack(bytes, this.#salted(options)));
  }

  async auditPack(pack: Blob, options: AuditOptions): Promise<PackAudit> {
    const bytes = new Uint8Array(await pack.arrayBuffer());
    const nonce = `audit ${crypto.randomUUID()}`;
    return this.#steps((engine) => engine.auditPack(bytes, nonce, this.#salted(options)));
  }

  explain(known: EnginePrefix, prompt: EnginePrefix): Promise<Explanation> {
    return this.#aside((host) => host.explain(this.#salted(known), this.#salted(prompt)));
  }

  stats(): Promise<Omit<CacheStats, "packs">> {
    return this.#aside((host) => ({ ...host.stats(), store: this.#backing.store?.() ?? null }));
  }

  clear(): Promise<void> {
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
      this.#host.free();
      if (!broken) await this.#engine.persist();
      this.#engine.free();
    } catch {
      // If the device is lost, there is nothing to free, and unsaved KV is lost.
    }
    await this.#backing.close();
  }

  /** Runs `work` in its turn, without other calls to the engine. */
  #call<T>(work: (engine: WasmEngine) => T | Promise<T>): Promise<T> {
    const turn = this.#gate.then(() => this.#try(() => work(this.#engine)));
    this.#gate = turn.catch(() => undefined);
    return turn;
  }

  /** Runs `work` that needs no GPU, also during a step. */
  #aside<T>(work: (host: WasmHost) => T): Promise<T> {
    return this.#try(() => work(this.#host));
  }

  async #try<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.#end) throw this.#end;
    try {
      return await work();
    } catch (thrown) {
      const error = toError(thrown);
      if (error.code === "internal") this.#fail(error);
      throw error;
    }
  }

  /** As `#call`, for a method that runs steps itself. Those may have advanced other answers. */
  async #steps<T>(work: (engine: WasmEngine) => Promise<T>): Promise<T> {
    try {
      return await this.#call(work);
    } finally {
      void this.#pump();
    }
  }

  /** With the salt of all requests, narrowed by its own. The engine refuses one that is no string, and a request that is none. */
  #salted<T extends { cache_salt?: string }>(request: T): T {
    const { salt } = this.#backing;
    const narrower: unknown = request?.cache_salt ?? "";
    return salt && typeof narrower === "string" ? { ...request, cache_salt: narrower ? JSON.stringify([salt, narrower]) : salt } : request;
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    // Whether there is work is asked and noted in one turn: nobody can add some in between.
    const step = async (engine: WasmEngine) => {
      this.#pumping = engine.isBusy();
      if (this.#pumping) this.#dispatch(await engine.step());
      return this.#pumping;
    };
    try {
      while (await this.#call(step)) await breath();
    } catch {
      // Answers receive their own errors, so this was an error of saving. The next answer tries to save again.
      this.#pumping = false;
    }
  }

  #dispatch(events: readonly WasmEvent[]): void {
    for (const { id, ...event } of events) {
      const caller = this.#callers.get(id);
      if (caller === undefined) continue;
      if (event.type === "finish" || event.type === "failed") {
        this.#callers.delete(id);
        this.#finish(caller, event.type === "failed" ? { type: "failed", error: toPlain(toError(event.error)) } : event);
      } else if (event.type === "progress") {
        this.#runs.get(caller)?.sink(event);
      } else if (event.text) {
        const run = this.#runs.get(caller);
        run?.sink({ type: "text", text: event.text });
        if (run && ++run.unread === MOST_UNREAD) this.#hold(run, true);
      }
    }
  }

  /** Pauses an answer, or resumes it. */
  #hold({ answer }: Run, still: boolean): void {
    this.#call((engine) => engine.hold(answer!, still)).then(
      () => this.#pump(),
      () => undefined,
    );
  }

  #finish(id: number, event: AnswerEvent): void {
    const run = this.#runs.get(id);
    if (this.#runs.delete(id)) run!.sink(event);
  }

  /** Ends every answer, and makes every later call fail. */
  #fail(error: HeadstartError): void {
    this.#end = error;
    for (const id of [...this.#runs.keys()]) this.#finish(id, { type: "failed", error: toPlain(error) });
  }
}

/** Lets the event loop handle messages, timers and frames. Unlike a timer it does not take 4 ms. */
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
