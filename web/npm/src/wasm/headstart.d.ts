/**
 * The interface of the engine's WebAssembly. The build puts the module beside this declaration.
 *
 * Plain data crosses as objects with the engine's names. Errors are thrown as `{ code, message, ...fields }`. While a promise of an
 * engine is pending, no other method of it may be called; its host may be called at any time. After a lost device the engine reads the
 * files again and continues its answers.
 */

import type {
  Adapter, AuditOptions, CacheReport, CacheStats, ChatMessage, Explanation, ImportOptions, Kernels, KvFormat, PackAudit, RenderedPrompt, Timings, Tokens, Usage,
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

/** A store for KV outside the GPU. Keys are 64 hex digits. It may lose anything. Only its signing key is trusted. */
export interface KvStore {
  readonly name: string;
  /** HMAC-SHA-256 under the store's key. The engine rejects values with another MAC. */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** The first `most` bytes, or all of fewer. */
  get(key: string, most?: number): Promise<Uint8Array | undefined>;
  /** Returns once the write is queued. A write that fails is counted. */
  put(key: string, bytes: Uint8Array, ttlMs?: number): Promise<void>;
  contains(keys: string[]): Promise<boolean[]>;
  remove(key: string): Promise<boolean>;
  clear(): Promise<void>;
  /** Marks a chain of keys, root first, as used. The root becomes the most recently used, so that a chain loses its leaf first. */
  touch(keys: string[]): void;
  /** Resolves when all values are durable. */
  flush(): Promise<void>;
  usage(): { entries: number; bytes: number; evicted: number; failures: number };
}

/** Null is the engine's default. */
export interface Settings {
  context?: number | null;
  kvTokens?: number | null;
  kv?: KvFormat | null;
  kernels?: Kernels | null;
  /** Host memory for KV that left the GPU. */
  memoryBytes?: number | null;
}

export interface LoadOptions extends Settings {
  files: ModelFile[];
  /** The name of a model with several files. Default: its first file of weights. */
  name?: string | undefined;
  store?: KvStore | undefined;
  weightsDigest?: string | undefined;
}

/** The options of `create`, checked and with their defaults. */
export interface CheckedOptions {
  settings: Settings;
  /** What is kept on disk; null keeps none. Without a budget it is what the disk allows. */
  kv: { budgetBytes: number | null; ttlMs: number } | null;
  salt: string | null;
  /** `false`: every prompt is computed as a whole. */
  caches: boolean;
  persistWeights: boolean;
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
  /** `false` leaves out the BOS that the model asks for before `prompt`. */
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
      /** Absent for text that was held back until the end. */
      token?: number;
      logits?: Float32Array;
    }
  | {
      type: "finish";
      id: number;
      reason: "stop" | "length" | "context" | "cancelled";
      usage: Omit<Usage, "total_tokens">;
      /** Sentences about what the prompt does not do as requested. */
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
  /** The part that needs no GPU. */
  host(): WasmHost;
  /** The prompt of an answer that has not ended. */
  promptTokens(id: number): Uint32Array;
  step(): Promise<WasmEvent[]>;
  isBusy(): boolean;
  /** Pauses an answer while others continue, or resumes it. */
  hold(id: number, still: boolean): void;
  cancel(id: number): WasmEvent[];
  warm(prefix: EnginePrefix): Promise<CacheReport>;
  exportPack(prefix: EnginePrefix & { name?: string }): Promise<Uint8Array>;
  importPack(bytes: Uint8Array, options?: ImportOptions): { name: string; tokens: number; bytes: number };
  /** Computes some of its blocks again and throws at the first difference. `nonce`: a salt that was never used before. */
  auditPack(bytes: Uint8Array, nonce: string, options?: AuditOptions): Promise<PackAudit>;
  persist(): Promise<void>;
  clear(): Promise<void>;
  destroyDeviceForTest(): void;
  free(): void;
}

export class WasmHost {
  tokenize(text: string): Uint32Array;
  detokenize(tokens: Tokens): string;
  countTokens(messages: readonly ChatMessage[]): number;
  renderPrompt(messages: readonly ChatMessage[], options?: object): RenderedPrompt;
  explain(known: object, prompt: object): Explanation;
  /** The statistics after the last step. */
  stats(): Omit<CacheStats, "store" | "packs">;
  free(): void;
}

/** Rejects with `bad_model` if the model in these files cannot run. It reads their headers and needs no GPU. */
export function judge(files: ModelFile[]): Promise<void>;

/** Checks the options of `create` that are plain data. Throws `bad_input` with the option that is not known or not allowed. */
export function createOptions(options: object): CheckedOptions;

/** Parses a name on the hub, such as `owner/repo:Q8_0`. Throws `bad_request` for an invalid name. */
export function hubName(text: string): { repo: string; revision: string; file: string | null };

/** The path of the GGUF file that a name selects among these files; undefined if it selects a directory with safetensors. */
export function hubFile(text: string, files: string[]): string | undefined;

/** SHA-256 of bytes that arrive in pieces. */
export class Sha256 {
  update(bytes: Uint8Array): void;
  /** 64 hex digits. No method may be called afterwards. */
  digest(): string;
}
