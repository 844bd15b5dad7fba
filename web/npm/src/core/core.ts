/**
 * The engine as the client sees it, in this thread or in a worker: plain data in and out, and answers as events.
 *
 * `LocalCore` runs the engine. `RemoteCore` has the same interface over messages. The client, above both, makes OpenAI's shapes.
 */

import type { PlainError } from "../errors.js";
import type {
  AuditOptions, CacheReport, CacheStats, ChatMessage, CreateOptions, Explanation, ImportOptions, PackAudit, PackInfo, PromptProgress, RenderedPrompt, Rendering, Timings, Tokens,
} from "../types.js";
import type { NamedSource } from "../model/source.js";
import type { EngineInfo, EnginePrefix, EngineRequest } from "../wasm/headstart.js";

/** The options of `create`, as data that can cross to a worker. */
export interface CoreOptions {
  model: NamedSource[];
  wasm?: string | BufferSource | WebAssembly.Module | undefined;
  headers?: Record<string, string> | undefined;
  /** The address of the hub, without a slash at its end. */
  hub: string;
  /** The other options as plain data. They are as the caller gave them until the engine has checked them. */
  given: Pick<CreateOptions, "cache" | "weights">;
}

export interface Finish {
  type: "finish";
  reason: "stop" | "length" | "context" | "cancelled";
  usage: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  warnings?: string[] | undefined;
  cache: CacheReport;
  timings: Timings;
  /** How often the device was lost on the way. */
  recovered: number;
}

/** The events of a request: it is accepted, its prompt progresses, text arrives, and at the end comes one `finish` or `failed`. */
export type AnswerEvent =
  | { type: "begun" }
  | ({ type: "progress" } & PromptProgress)
  | { type: "text"; text: string }
  | Finish
  | { type: "failed"; error: PlainError };

export type Sink = (event: AnswerEvent) => void;

export interface Core {
  readonly info: EngineInfo;
  /** Begins an answer under the caller's id. An invalid request gives a `failed` event too. */
  run(id: number, request: EngineRequest, sink: Sink): void;
  /** Reports that so many more pieces of an answer's text were read. An answer with too many unread pieces pauses while others continue. */
  read(id: number, pieces: number): void;
  /** Ends an answer; its `finish` follows, unless it has ended. */
  cancel(id: number): void;
  tokenize(text: string): Promise<Uint32Array>;
  detokenize(tokens: Tokens): Promise<string>;
  renderPrompt(messages: readonly ChatMessage[], options: Rendering): Promise<RenderedPrompt>;
  warm(prefix: EnginePrefix): Promise<CacheReport>;
  exportPack(prefix: EnginePrefix & { name?: string }): Promise<Uint8Array>;
  importPack(pack: Blob, options: ImportOptions): Promise<PackInfo>;
  auditPack(pack: Blob, options: AuditOptions): Promise<PackAudit>;
  explain(known: EnginePrefix, prompt: EnginePrefix): Promise<Explanation>;
  stats(): Promise<Omit<CacheStats, "packs">>;
  clear(): Promise<void>;
  destroyDeviceForTest(): Promise<void>;
  dispose(): Promise<void>;
}
