/**
 * What the engine's WebAssembly gives and takes: the build puts the real module beside this declaration of it.
 *
 * Plain data crosses as objects in the engine's own names. Errors are thrown as `{ code, message, ...fields }`. While a
 * promise of an engine is pending, nothing else of it may be called; its host may be called at any time. When a device is
 * lost the engine reads the files again and its answers go on.
 */

import type {
  Adapter, CacheReport, CacheStats, ChatMessage, Explanation, KvFormat, PackAudit, RenderedPrompt, Timings, Usage,
} from "../types.js";

export default function init(input: {
  module_or_path: string | URL | Response | BufferSource | WebAssembly.Module;
}): Promise<unknown>;

/** The bytes of one file of a model, readable in any order. */
export interface ModelFile {
  name: string;
  size: number;
  /** SHA-256 of the whole file, 64 hex digits, where it is known. */
  sha256?: string;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Where KV lives beyond the GPU. Keys are 64 hex digits. It may lose anything, and is trusted with nothing but its key. */
export interface KvStore {
  readonly name: string;
  /** HMAC-SHA-256 under a key of whoever keeps the store: what was not signed so is not answered with. */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** The first `most` bytes, or all of fewer. */
  get(key: string, most?: number): Promise<Uint8Array | undefined>;
  /** Returns once the write is queued. A write that fails is counted. */
  put(key: string, bytes: Uint8Array, ttlMs?: number): Promise<void>;
  contains(keys: string[]): Promise<boolean[]>;
  remove(key: string): Promise<boolean>;
  clear(): Promise<void>;
  /** Marks a chain, root first, as used: its root last, so that a chain goes from its leaf. */
  touch(keys: string[]): void;
  /** Returns when all that was put is durable. */
  flush(): Promise<void>;
  usage(): { entries: number; bytes: number; evicted: number; failures: number };
}

export interface LoadOptions {
  files: ModelFile[];
  /** What a model of several files is called. Default: the first of its weights. */
  name?: string;
  context?: number;
  kvTokens?: number;
  kv?: KvFormat;
  /** Host memory for KV that left the GPU. */
  memoryBytes?: number;
  store?: KvStore;
  weightsDigest?: string;
}

export interface EngineInfo {
  adapter: Adapter;
  context: number;
  vocab: number;
  weightsDigest: string;
  model: string;
  stopTokens: number[];
  hasTemplate: boolean;
}

export interface EnginePrefix {
  messages?: readonly ChatMessage[];
  tools?: readonly unknown[];
  template_kwargs?: object;
  past_thinking?: string;
  split_special_tokens?: boolean;
  now?: number;
  add_generation_prompt?: boolean;
  continue_final_message?: boolean;
  cache_salt?: string;
}

export interface EngineRequest extends EnginePrefix {
  prompt?: string;
  /** Of `prompt`: `false` leaves out the BOS that the model asks for. */
  add_special_tokens?: boolean;
  tokens?: number[];
  max_tokens?: number;
  max_completion_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  seed?: number;
  stop?: string | readonly string[];
  repetition_penalty?: number;
  frequency_penalty?: number;
  presence_penalty?: number;
  logit_bias?: Record<string, number>;
  exact?: boolean;
  no_cache?: boolean;
  logits?: boolean;
}

export type WasmEvent =
  | { type: "progress"; id: number; done: number; total: number }
  | {
      type: "text";
      id: number;
      text: string;
      /** Absent where text that was held back comes out at the end. */
      token?: number;
      logits?: Float32Array;
    }
  | {
      type: "finish";
      id: number;
      reason: "stop" | "length" | "context" | "cancelled";
      usage: Omit<Usage, "total_tokens">;
      /** What the request may not expect of its prompt, a sentence each. */
      warnings?: string[];
      cache: CacheReport;
      timings: Timings;
      /** How often the device was lost on the way. */
      recovered: number;
    }
  | { type: "failed"; id: number; error: unknown };

export class WasmEngine {
  static load(
    options: LoadOptions,
    onProgress: (progress: { stage: "upload" | "compile"; done: number; total: number }) => void,
  ): Promise<WasmEngine>;
  info(): EngineInfo;
  submit(request: EngineRequest): number;
  /** What needs no GPU. */
  host(): WasmHost;
  /** The prompt of an answer that has not ended. */
  promptTokens(id: number): Uint32Array;
  step(): Promise<WasmEvent[]>;
  isBusy(): boolean;
  /** Has an answer stand still, beside others that go on, or go on itself. */
  hold(id: number, still: boolean): void;
  cancel(id: number): WasmEvent[];
  warm(prefix: EnginePrefix): Promise<CacheReport>;
  exportPack(prefix: EnginePrefix & { name?: string }): Promise<Uint8Array>;
  /** `key`: whose signature it must have, 64 hex digits. */
  importPack(bytes: Uint8Array, cacheSalt?: string, key?: string): { name: string; tokens: number; bytes: number };
  /** Computes `blocks` of it anew and compares; throws at the first that differs. `nonce`: a salt that nobody has ever used. */
  auditPack(bytes: Uint8Array, blocks: number, nonce: string, otherAdapter: boolean, cacheSalt?: string): Promise<PackAudit>;
  persist(): Promise<void>;
  clear(): Promise<void>;
  destroyDeviceForTest(): void;
  free(): void;
}

export class WasmHost {
  tokenize(text: string): Uint32Array;
  detokenize(tokens: Uint32Array): string;
  countTokens(messages: readonly ChatMessage[]): number;
  renderPrompt(messages: readonly ChatMessage[], options?: object): RenderedPrompt;
  explain(known: object, prompt: object): Explanation;
  /** As it was after the last step. */
  stats(): Omit<CacheStats, "store" | "packs">;
  free(): void;
}

/** Rejects with `bad_model` where the model in these files cannot run: by what their headers say, and without a GPU. */
export function judge(files: ModelFile[]): Promise<void>;

/** What a name of the hub says, such as `owner/repo:Q8_0`. Throws `bad_request` for what is none. */
export function hubName(text: string): { repo: string; revision: string; file: string | null };

/** The path of the GGUF file that a name means in a repository of these files; undefined where it means a directory with safetensors. */
export function hubFile(text: string, files: string[]): string | undefined;

/** SHA-256 over bytes that come in pieces. */
export class Sha256 {
  update(bytes: Uint8Array): void;
  /** 64 hex digits. Nothing may be called after it. */
  digest(): string;
}
