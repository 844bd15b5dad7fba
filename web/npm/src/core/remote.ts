/**
 * The engine in a worker, over messages: calls with an id, their replies, and the events of answers.
 *
 * `RemoteCore` is the page's end, `serve` the worker's. Both use the methods of `Core`. Errors cross as their code, message and fields.
 * Bytes are transferred, not copied. Aborting the load terminates the worker.
 */

import { HeadstartError, type PlainError, aborted, disposed, toError, toPlain } from "../errors.js";
import type { Progress } from "../types.js";
import type { EngineInfo, EngineRequest } from "../wasm/headstart.js";
import type { AnswerEvent, Core, CoreOptions, Sink } from "./core.js";

type Method = Exclude<keyof Core, "info" | "run" | "read" | "cancel">;

type ToWorker =
  | { type: "open"; options: CoreOptions }
  | { type: "run"; id: number; request: EngineRequest }
  | { type: "read"; id: number; pieces: number }
  | { type: "cancel"; id: number }
  | { type: "call"; id: number; method: Method; args: unknown[] };

type ToPage =
  | { type: "progress"; progress: Progress }
  | { type: "opened"; info: EngineInfo }
  | { type: "failed"; error: PlainError }
  | { type: "answers"; events: { id: number; event: AnswerEvent }[] }
  | { type: "reply"; id: number; value?: unknown; error?: PlainError };

/** A worker, or in tests one side of a channel. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

export interface WorkerPort extends Port {
  onerror: ((event: ErrorEvent) => void) | null;
  terminate(): void;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: HeadstartError): void;
}

export class RemoteCore implements Core {
  readonly info: EngineInfo;
  readonly #worker: WorkerPort;
  readonly #pending: Map<number, Pending>;
  readonly #sinks: Map<number, Sink>;
  #calls = 0;
  #end: HeadstartError | undefined;

  private constructor(worker: WorkerPort, info: EngineInfo) {
    this.#worker = worker;
    this.info = info;
    this.#pending = new Map();
    this.#sinks = new Map();
    worker.onmessage = ({ data }) => this.#receive(data as ToPage);
    worker.onerror = (event) => this.#fail(crashed(event));
  }

  static async open(
    worker: WorkerPort,
    options: CoreOptions,
    onProgress: (progress: Progress) => void,
    signal: AbortSignal | undefined,
  ): Promise<RemoteCore> {
    let abort!: () => void;
    const opened = new Promise<RemoteCore>((resolve, reject) => {
      abort = () => reject(aborted());
      worker.onmessage = ({ data }) => {
        const message = data as ToPage;
        if (message.type === "progress") onProgress(message.progress);
        else if (message.type === "opened") resolve(new RemoteCore(worker, message.info));
        else if (message.type === "failed") reject(toError(message.error));
      };
      worker.onerror = (event) => reject(crashed(event));
      send(worker, { type: "open", options }, transferables(options.model.map(({ source }) => source)));
    });
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    try {
      return await opened;
    } catch (error) {
      // The worker can stop at any point, since every file that it has written is complete.
      worker.terminate();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  run(id: number, request: EngineRequest, sink: Sink): void {
    if (this.#end) return sink({ type: "failed", error: toPlain(this.#end) });
    this.#sinks.set(id, sink);
    try {
      send(this.#worker, { type: "run", id, request });
    } catch (error) {
      this.#sinks.delete(id);
      sink({ type: "failed", error: toPlain(uncloneable(error)) });
    }
  }

  read(id: number, pieces: number): void {
    send(this.#worker, { type: "read", id, pieces });
  }

  cancel(id: number): void {
    send(this.#worker, { type: "cancel", id });
  }

  readonly tokenize = this.#method("tokenize");
  readonly detokenize = this.#method("detokenize");
  readonly renderPrompt = this.#method("renderPrompt");
  readonly warm = this.#method("warm");
  readonly exportPack = this.#method("exportPack");
  readonly importPack = this.#method("importPack");
  readonly auditPack = this.#method("auditPack");
  readonly explain = this.#method("explain");
  readonly stats = this.#method("stats");
  readonly clear = this.#method("clear");
  readonly destroyDeviceForTest = this.#method("destroyDeviceForTest");

  async dispose(): Promise<void> {
    if (this.#end?.code === "disposed") return;
    try {
      if (!this.#end) await this.#call("dispose", []);
    } finally {
      this.#fail(disposed());
      this.#worker.terminate();
    }
  }

  #method<M extends Method>(method: M): Core[M] {
    return ((...args: unknown[]) => this.#call(method, args)) as unknown as Core[M];
  }

  #call(method: Method, args: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#end) return reject(this.#end);
      const id = ++this.#calls;
      this.#pending.set(id, { resolve, reject });
      try {
        send(this.#worker, { type: "call", id, method, args });
      } catch (error) {
        this.#pending.delete(id);
        reject(uncloneable(error));
      }
    });
  }

  #receive(message: ToPage): void {
    if (message.type === "answers") {
      for (const { id, event } of message.events) {
        const sink = this.#sinks.get(id);
        if (event.type === "finish" || event.type === "failed") this.#sinks.delete(id);
        sink?.(event);
      }
    } else if (message.type === "reply") {
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.error) pending?.reject(toError(message.error));
      else pending?.resolve(message.value);
    }
  }

  #fail(error: HeadstartError): void {
    this.#end = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    const sinks = [...this.#sinks.values()];
    this.#sinks.clear();
    for (const sink of sinks) sink({ type: "failed", error: toPlain(error) });
  }
}

/** The worker's end: opens a core on the first message and forwards the others to it. */
export function serve(
  port: Port,
  open: (options: CoreOptions, onProgress: (progress: Progress) => void) => Promise<Core>,
): void {
  const answers: { id: number; event: AnswerEvent }[] = [];
  let core: Core | undefined;
  const reply = (message: ToPage, transfer: Transferable[] = []) => port.postMessage(message, transfer);
  const flush = () => reply({ type: "answers", events: answers.splice(0) });

  port.onmessage = async ({ data }) => {
    const message = data as ToWorker;
    switch (message.type) {
      case "open":
        try {
          core = await open(message.options, (progress) => reply({ type: "progress", progress }));
          reply({ type: "opened", info: core.info });
        } catch (error) {
          reply({ type: "failed", error: toPlain(toError(error)) });
        }
        break;
      case "run":
        // One message carries all events of a step.
        core!.run(message.id, message.request, (event) => {
          if (answers.push({ id: message.id, event }) === 1) queueMicrotask(flush);
        });
        break;
      case "read":
        core!.read(message.id, message.pieces);
        break;
      case "cancel":
        core!.cancel(message.id);
        break;
      case "call":
        try {
          const method = core![message.method] as (...args: unknown[]) => Promise<unknown>;
          const value = await method.apply(core, message.args);
          reply({ type: "reply", id: message.id, value }, value instanceof Uint8Array ? [value.buffer] : []);
        } catch (error) {
          reply({ type: "reply", id: message.id, error: toPlain(toError(error)) });
        }
    }
  };
}

function send(port: Port, message: ToWorker, transfer: Transferable[] = []): void {
  port.postMessage(message, transfer);
}

function transferables(values: readonly unknown[]): Transferable[] {
  return values.filter((value) => value instanceof ReadableStream);
}

/** The advice for a worker that does not start. */
export const SERVE = 'serve worker-entry.js and what lies beside it from this page\'s own origin, or import Headstart from "headstart", which needs no worker';

function crashed({ message }: ErrorEvent): HeadstartError {
  return message
    ? new HeadstartError("internal", `the worker failed: ${message}`)
    : new HeadstartError("worker", `the worker's script did not load; ${SERVE}`);
}

function uncloneable(error: unknown): HeadstartError {
  return new HeadstartError("bad_input", `the request cannot be sent to the worker: ${String(error)}`);
}
