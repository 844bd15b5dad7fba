/**
 * The public types: what goes in, what comes out, and what can go wrong.
 *
 * Requests and answers have the shapes of OpenAI's API. Everything beyond it is under `headstart`. Counts are in tokens, sizes in
 * bytes, times in milliseconds. Fields that come from the engine keep its names, in snake case.
 */

import type { CacheReport, Explanation } from "./account.js";
import type { ErrorCode } from "./errors.js";
import type { OpenAIFields } from "./openai.js";

export type * from "./account.js";
export type { ErrorCode, ErrorFields } from "./errors.js";
export type * from "./openai.js";

/** One file of a model, or a place that has it. */
export type Source = string | URL | Blob | File | ReadableStream<Uint8Array>;

/**
 * A model: one GGUF file, or all shards of one (`NAME-00001-of-00003.gguf` and so on), or the files of a Hugging Face
 * directory (`config.json`, `tokenizer.json`, `*.safetensors`).
 *
 * - a URL of a `.gguf` or `.safetensors` file, relative to the page. The URL of one shard brings the other shards beside it. A URL
 *   that ends in `/` is a directory: its `model.safetensors.index.json` or `model.safetensors` is looked up with its other files
 * - a name on the Hugging Face hub: `owner/repo`, `owner/repo:Q8_0` or `owner/repo:FILE.gguf`, each with `@revision` after the
 *   repository or at the end; or a name in `Headstart.models`. Begin a relative address with `./` if it looks like such a name
 * - a Blob or File. It is read in place
 * - a ReadableStream. It is written to the origin private file system first
 * - a list of these, or a record by file name. If there are several files, each needs a name: the last part of its URL, the name of
 *   the File, or the key in the record.
 */
export type ModelSource = Source | readonly Source[] | { readonly [filename: string]: Source };

/** A GGUF file on the Hugging Face hub that this engine supports. Its shape determines its memory use. */
export interface ListedModel {
  /** The name for `create`, and for `headstart models pull NAME`. */
  name: string;
  title: string;
  /** `owner/name` */
  repo: string;
  file: string;
  /** The address of the file, for `create`. */
  url: string;
  /** Size of the file. If it is absent, the server's `Content-Length` tells it. */
  bytes?: number;
  license: string;
  /**
   * `run`: this file gives the same output as transformers. `base run`: the base model of this size and format does. `not run`: only
   * a tiny checkpoint of its architecture was compared.
   */
  checked: "run" | "base run" | "not run";
  /** `general.architecture` of the file. */
  architecture: string;
  /** Context length that the model was trained for, in tokens. */
  context: number;
  layers: number;
  kv_heads: number;
  head_dim: number;
  vocab: number;
  hidden: number;
}

/** Progress of a step of loading. `loaded` grows to `total`; `total` is 0 while it is unknown. */
export interface Progress {
  /** `download` counts bytes, including those read from the copy on disk; `upload` counts bytes of weights; `compile` counts pipelines. */
  stage: "download" | "upload" | "compile";
  loaded: number;
  total: number;
}

export interface CacheOptions {
  /** Keep KV in the origin private file system, so that it outlives the page. Default true. */
  persist?: boolean;
  /** Budget for KV on disk in bytes. Beyond it the least recently used goes. Default 1 GiB, at most half of the origin's free space. */
  budgetBytes?: number;
  /** Time to live of KV on disk after its last write. Default 30 days. */
  ttlMs?: number;
  /** Bytes of host memory for KV that the GPU no longer holds. Default 32 MiB. */
  memoryBytes?: number;
  /** Only requests with the same salt share KV. A request's `cache_salt` narrows this further. */
  salt?: string;
}

export type KvFormat = "f16" | "q8";
export type Kernels = "auto" | "f32" | "f16" | "int8" | "portable";

export interface CreateOptions {
  model: ModelSource;
  onProgress?: (progress: Progress) => void;
  /** Ends loading. `create` then rejects with the code `aborted`. The next download resumes from what has arrived. */
  signal?: AbortSignal;
  /** The address of the `.wasm`, its bytes, or its module. Default: the file beside this module. */
  wasm?: string | URL | BufferSource | WebAssembly.Module;
  /** Longest sequence in tokens. Default: the model's own limit, as far as the GPU's memory allows. */
  context?: number;
  /** Tokens of KV on the GPU for all sequences together. Default: the engine decides. */
  kvTokens?: number;
  /**
   * Format of keys and values, on the GPU and beyond it. `"q8"` takes about half the bytes of `"f16"`, at a small cost in
   * perplexity, which `headstart score --kv q8` tells. KV of one format is never reused in the other. Default `"f16"`.
   */
  kv?: KvFormat;
  /**
   * How prompts are computed. `"auto"`: in f16 if the adapter multiplies matrices of it, else in f32. `"f16"`: slowly if it does not.
   * `"int8"` multiplies in 8 bits where weights are quantised, at a cost in perplexity, which `headstart score --kernels int8` tells.
   * `"portable"`: in f32, without subgroups. KV of one class is never reused in another. Default `"auto"`.
   */
  kernels?: Kernels;
  /** `false` keeps no KV after a request: every prompt is computed as a whole, and nothing is written. */
  cache?: CacheOptions | false;
  /** Whether a downloaded model is kept in the origin private file system. Default `{ persist: true }`. */
  weights?: { persist?: boolean };
  /** Prefix packs to load after the model. A refused pack appears in `prefix.stats().packs` and has no other effect. */
  prefixPacks?: readonly (PackSource | SignedPack)[];
  /** Headers sent when the model is fetched, e.g. `authorization`. */
  headers?: Record<string, string>;
  /** The address of the hub for names. Default `https://huggingface.co`, or in Node the value of `HF_ENDPOINT`. */
  hub?: string | URL;
}

// ---- requests ----

export interface TextPart {
  type: "text";
  text: string;
}

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant" | "tool" | (string & {});
  content?: string | readonly TextPart[] | null;
  name?: string;
  tool_call_id?: string;
  tool_calls?: readonly ToolCall[];
}

export interface Tool {
  type: "function";
  function: { name: string; description?: string; parameters?: object };
}

/** How tokens are drawn and when an answer ends: OpenAI's fields, and those that other servers added. Null counts as absent. */
export interface Sampling {
  /** Default: the rest of the context. */
  max_tokens?: number | null;
  /** OpenAI's newer name of `max_tokens`, which takes precedence. */
  max_completion_tokens?: number | null;
  /** 0 is greedy. Default 0, or 1 where `top_p`, `top_k` or `min_p` is given. */
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  seed?: number | null;
  /** The answer ends before the first of these strings. */
  stop?: string | readonly string[] | null;
  repetition_penalty?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  /** By token id. */
  logit_bias?: Record<string, number> | null;
}

export interface RequestOptions {
  /** Ends the answer, frees its sequence and keeps its KV. The promise or the iteration rejects with `aborted`. */
  signal?: AbortSignal;
  /** Only requests with the same salt share KV. */
  cache_salt?: string;
  /** Does not reuse KV that was written while generating, so that a reused prompt gives the same bits as a computed one. */
  exact?: boolean;
  /** Reuses no KV, and keeps none beyond the GPU. */
  no_cache?: boolean;
  /**
   * Receives the progress of the prompt: at least once before the first token, with all of it done. After a lost device the prompt
   * is read again.
   */
  onPromptProgress?: (progress: PromptProgress) => void;
}

/** `done` of the prompt's `total` tokens are computed, or were known. */
export interface PromptProgress {
  done: number;
  total: number;
}

export interface Rendering {
  tools?: readonly Tool[];
  /** Variables of the chat template, e.g. `{ enable_thinking: false }`. */
  template_kwargs?: Record<string, unknown>;
  /** The name of `template_kwargs` on other servers. */
  chat_template_kwargs?: Record<string, unknown>;
  /**
   * Thinking before the last question: `"keep"` it if the template can, or `"strip"` it. Default: the template decides. If it is left
   * out, the answer after it is computed again.
   */
  past_thinking?: "keep" | "strip";
  /** `true`: control tokens that messages and tools spell out, such as `<|im_end|>`, stay text. Default `false`. */
  split_special_tokens?: boolean;
  /** The time the template sees, in seconds since 1970. Default: now, by the clock. */
  now?: number;
  /** The date the template sees, e.g. `"2026-11-23"`. Give this or `now`. */
  date?: string;
}

export interface ChatRequest extends Sampling, RequestOptions, Rendering, OpenAIFields {
  messages: readonly ChatMessage[];
  /** `false` ends the prompt after the last message. Default `true`: the answer begins a new turn. */
  add_generation_prompt?: boolean;
  /** The answer continues the last message. */
  continue_final_message?: boolean;
  stream?: boolean | null;
  /** Ignored: there is one model. Accepted so that code for other clients runs. */
  model?: string;
}

export interface CompletionRequest extends Sampling, RequestOptions, OpenAIFields {
  /** Text or token ids, without the chat template. */
  prompt: string | readonly number[] | Uint32Array;
  /** `false` leaves out the BOS that the model asks for. Default `true`. */
  add_special_tokens?: boolean;
  stream?: boolean | null;
  model?: string;
}

// ---- answers ----

/** `stop`: a stop token or string; `length`: `max_tokens` or the end of the context. */
export type FinishReason = "stop" | "length";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: {
    /** Prompt tokens that were not computed again. */
    cached_tokens: number;
  };
}

export interface Timings {
  /** From the request to its first token. */
  ttft_ms: number;
  prefill_ms: number;
  /** From the first token to the last. */
  decode_ms: number;
  /** Computed prompt tokens per second. */
  prefill_tok_s: number;
  decode_tok_s: number;
}

/** The part of an answer beyond OpenAI's shape. */
export interface Account {
  cache: CacheReport;
  timings: Timings;
  /** How often the device was lost and the answer continued on a new one. */
  recovered: number;
  /**
   * `context` if the context, or the memory for it, was full before `max_tokens`; `finish_reason` is then `length`.
   * `cancelled` after `abort()`; `finish_reason` is then `stop`.
   */
  finish: "stop" | "length" | "context" | "cancelled";
  /** Sentences about what the prompt does not do as requested, e.g. tools that the chat template drops. */
  warnings: string[];
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: [{ index: 0; message: { role: "assistant"; content: string }; finish_reason: FinishReason }];
  usage: Usage;
  headstart: Account;
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** The first chunk has the role, the last one has the reason, and those between have text. */
  choices: [{ index: 0; delta: { role?: "assistant"; content?: string }; finish_reason: FinishReason | null }];
  /** In the last chunk only. */
  usage?: Usage;
  /** In the last chunk only. */
  headstart?: Account;
}

export interface Completion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  /** In a stream each has a piece of the text, and only the last has a `finish_reason`. */
  choices: [{ index: 0; text: string; finish_reason: FinishReason | null }];
  /** In a stream in the last piece only. */
  usage?: Usage;
  headstart?: Account;
}

/**
 * The chunks of one answer, which can be read once. If nobody reads them, some queue up and the answer pauses. Leaving a `for await`
 * loop, dropping the stream, or `abort()` frees the sequence and keeps its KV.
 */
export interface AnswerStream<T> extends AsyncIterable<T> {
  /** Ends the answer. The iteration continues to the last chunk, whose account says `cancelled`, and ends without an error. */
  abort(): void;
  /** The chunks as a stream, e.g. for a `Response`. Use either this or the iteration. */
  toReadableStream(): ReadableStream<T>;
}

// ---- prefixes ----

/** The beginning of a conversation. */
export interface Prefix extends Rendering {
  messages: readonly ChatMessage[];
  cache_salt?: string;
}

/** Ids of tokens. */
export type Tokens = Uint32Array | readonly number[];

export type PackSource = string | URL | Blob;

/** A pack that is accepted only if it is signed with this key, which `headstart prefix export --sign` shows. */
export interface SignedPack {
  url: PackSource;
  /** 64 hex digits. */
  key: string;
}

/** The result of an audit: the checked blocks are what this adapter computes. */
export interface PackAudit {
  /** Blocks of 16 tokens that the pack has. */
  blocks: number;
  /** Indices of the blocks that were computed and compared. */
  checked: number[];
  /** Whether every bit is the same. */
  exact: boolean;
  /** The largest relative difference of a value: above 0 only with `otherAdapter`. */
  largest: number;
  /** The adapter that made the pack, as the pack states it. */
  device: string | null;
}

export interface ImportOptions {
  /** The pack is accepted only if this key signed it. */
  key?: string;
  /** Only requests with the same salt use it. */
  cache_salt?: string;
}

export interface AuditOptions {
  /** How many blocks are computed. Default 8. */
  blocks?: number;
  /** Values need only be close. */
  otherAdapter?: boolean;
  cache_salt?: string;
}

export interface LoadPackOptions extends ImportOptions {
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export interface PackInfo {
  name: string;
  tokens: number;
  bytes: number;
}

/** Counters of one KV tier since the engine was created. */
export interface TierStats {
  name: string;
  hits: number;
  misses: number;
  /** Blobs that were found and refused, by reason. */
  rejected: Record<string, number>;
  failures: number;
  loaded_bytes: number;
  load_ms: number;
  saved: number;
  saved_bytes: number;
  dropped: number;
}

/** The contents of a store. */
export interface StoreUsage {
  entries: number;
  bytes: number;
  evicted: number;
  failures: number;
}

export interface CacheStats {
  /** KV pages of 16 tokens on the GPU: in all, in use by sequences, and kept for reuse. */
  pages: { total: number; used: number; cached: number };
  /** From the fastest to the slowest. */
  tiers: TierStats[];
  /** The store on disk; null without one. */
  store: (StoreUsage & { name: "opfs" | "indexeddb" | "directory"; budget_bytes: number }) | null;
  packs: (PackInfo & { source: string; error?: undefined } | { source: string; error: { code: ErrorCode; message: string } })[];
  /** Costs of decoding per token, as in `headstart bench`. */
  counters?: Record<string, number>;
}

export interface RenderedPrompt {
  tokens: number[];
  /** The text of each token. A partial character shows as U+FFFD. */
  pieces: string[];
  /** The index of the message that owns each token; -1 for the template. */
  message: number[];
}

export interface Adapter {
  name: string;
  backend: string;
  driver: string;
  /** The numeric class of prompts: `"f32"`, `"f16"` or `"int8"`. */
  numerics: string;
  /** What is not used on this adapter, because its driver computes it wrong. */
  notes: readonly string[];
}

// ---- the engine ----

/** A loaded model. The interface is the same in this thread (`headstart`) and in a worker (`headstart/worker`). */
export interface HeadstartInterface {
  /** The name of the model's file, or of its directory if the model has several files and the directory is known. */
  readonly model: string;
  readonly adapter: Adapter;
  /** Longest sequence in tokens. */
  readonly context: number;
  /** SHA-256 of the weights, 64 hex digits. */
  readonly weightsDigest: string;
  /** Whether the model has a chat template. Without one only `completions` works. */
  readonly hasTemplate: boolean;
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: TextCompletions;
  readonly prefix: Prefixes;
  /** The tokens of a completion request with this prompt. They begin with BOS if the model asks for it. */
  tokenize(text: string): Promise<Uint32Array>;
  detokenize(tokens: Tokens): Promise<string>;
  /** The prompt of a chat request with these messages. */
  renderPrompt(messages: readonly ChatMessage[], options?: Rendering): Promise<RenderedPrompt>;
  /** Ends all answers, writes the KV that waits, and frees the device. Later calls reject with `disposed`. */
  dispose(): Promise<void>;
}

export interface ChatCompletions {
  create(request: ChatRequest & { stream: true }): Promise<AnswerStream<ChatCompletionChunk>>;
  create(request: ChatRequest & { stream?: false | null }): Promise<ChatCompletion>;
  create(request: ChatRequest): Promise<ChatCompletion | AnswerStream<ChatCompletionChunk>>;
}

export interface TextCompletions {
  create(request: CompletionRequest & { stream: true }): Promise<AnswerStream<Completion>>;
  create(request: CompletionRequest & { stream?: false | null }): Promise<Completion>;
  create(request: CompletionRequest): Promise<Completion | AnswerStream<Completion>>;
}

export interface Prefixes {
  /** Computes a prefix, so that later requests with this beginning reuse it. */
  warm(prefix: readonly ChatMessage[] | Prefix): Promise<CacheReport>;
  /** A prefix as one file, for others with the same model. The file contains the messages' tokens, so others can read the messages. */
  export(prefix: readonly ChatMessage[] | Prefix, options?: { name?: string }): Promise<Blob>;
  /** Loads a pack. Rejects with `pack_rejected` if it is damaged or belongs to another model. */
  import(pack: Blob | BufferSource, options?: ImportOptions): Promise<PackInfo>;
  /**
   * Computes random blocks of a pack again, 8 or `blocks` of them, and compares every bit. Rejects with `pack_rejected` at the first
   * difference. No answer may run meanwhile. With `otherAdapter` values need only be close, which proves little.
   */
  audit(pack: Blob | BufferSource, options?: AuditOptions): Promise<PackAudit>;
  load(url: string | URL, options?: LoadPackOptions): Promise<PackInfo>;
  stats(): Promise<CacheStats>;
  /** What the cache could reuse of `prompt` after `known`, and why not more. */
  explain(known: Prefix | readonly ChatMessage[], prompt: Prefix | readonly ChatMessage[]): Promise<Explanation>;
  /** Removes all KV: on the GPU, in memory and on disk. Weights stay; `clearWeights()` removes those. */
  clear(): Promise<void>;
}
