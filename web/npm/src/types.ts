/**
 * The public types: what goes in, what comes out, and what can go wrong.
 *
 * Requests and answers have the shapes of OpenAI's API; what it does not know stands under `headstart`. Counts are in
 * tokens, sizes in bytes, times in milliseconds. Fields of what crosses from the engine keep its names, in snake case.
 */

import type { CacheReport, Explanation } from "./account.js";
import type { ErrorCode } from "./errors.js";

export type * from "./account.js";
export type { ErrorCode, ErrorFields } from "./errors.js";

/** One place that a model, a tokenizer or a pack can come from. */
export type Source = string | URL | Blob | File | ReadableStream<Uint8Array>;

/**
 * A model: one GGUF file, or all shards of one (`NAME-00001-of-00003.gguf` and so on), or the files of a Hugging Face
 * directory (`config.json`, `tokenizer.json`, `*.safetensors`).
 *
 * - a URL of a `.gguf` or `.safetensors` file, relative to the page. One of a shard stands for all of them, which lie beside it;
 *   one that ends in `/` is a directory, whose `model.safetensors.index.json` or `model.safetensors` is looked up with what
 *   belongs to it
 * - a name of the Hugging Face hub: `owner/repo`, `owner/repo:Q8_0` or `owner/repo:FILE.gguf`, each with `@revision` behind the
 *   repository or at the end; or of `Headstart.models`. An address that looks like one begins with `./`
 * - a Blob or File, which is read in place
 * - a ReadableStream, which is written to the origin private file system first
 * - a list or a record by file name of the above. Of several files each needs a name: a URL's last part, a File's name,
 *   or the record's key.
 */
export type ModelSource = Source | readonly Source[] | { readonly [filename: string]: Source };

/** A GGUF file on the Hugging Face hub that this engine is made to run. Its shape tells what memory it takes. */
export interface ListedModel {
  /** As `headstart models pull NAME` takes it. */
  name: string;
  title: string;
  /** `owner/name` */
  repo: string;
  file: string;
  /** What `create` takes. */
  url: string;
  /** Of the file. Where it is not given, the server tells it in `Content-Length`. */
  bytes?: number;
  license: string;
  /**
   * `run`: this file gives what transformers gives; `base run`: the base model of this size and format does; `not run`: only a
   * tiny checkpoint of its architecture was compared.
   */
  checked: "run" | "base run" | "not run";
  /** `general.architecture` of the file. */
  architecture: string;
  /** Tokens the model was made for. */
  context: number;
  layers: number;
  kv_heads: number;
  head_dim: number;
  vocab: number;
  hidden: number;
}

/** How far a step of loading is. `loaded` grows to `total`; `total` is 0 while it is not known. */
export interface Progress {
  /** `download` counts bytes, also those read from the disk's copy; `upload` bytes of weights; `compile` pipelines. */
  stage: "download" | "upload" | "compile";
  loaded: number;
  total: number;
}

export interface CacheOptions {
  /** Keep KV in the origin private file system, so that it outlives the page. Default true. */
  persist?: boolean;
  /** Bytes of KV on disk before the least recently used goes. Default 1 GiB, and at most half of what the origin has left. */
  budgetBytes?: number;
  /** Time after its last write when KV on disk is forgotten. Default 30 days. */
  ttlMs?: number;
  /** Bytes of host memory for KV that left the GPU. Default 32 MiB. */
  memoryBytes?: number;
  /** KV is only shared between requests of one salt. A request's `cache_salt` narrows it further. */
  salt?: string;
}

export type KvFormat = "f16" | "q8";

export interface CreateOptions {
  model: ModelSource;
  onProgress?: (progress: Progress) => void;
  /** Ends loading; `create` then rejects with the code `aborted`. What was downloaded is kept and resumed from. */
  signal?: AbortSignal;
  /** Where the `.wasm` is, its bytes, or its module. Default: beside this module. */
  wasm?: string | URL | BufferSource | WebAssembly.Module;
  /** Longest sequence in tokens. Default: the model's own limit, as far as the GPU's memory goes. */
  context?: number;
  /** Tokens of KV on the GPU over all sequences. Default: what the engine finds fitting. */
  kvTokens?: number;
  /**
   * How keys and values are kept, on the GPU and beyond it. `"q8"` takes about half the bytes of `"f16"`, at a small cost in
   * perplexity, which `headstart score --kv q8` tells. A prefix or a pack of one is not found by the other. Default `"f16"`.
   */
  kv?: KvFormat;
  /** `false` keeps nothing beyond a request: each prompt is computed whole, and nothing is written. */
  cache?: CacheOptions | false;
  /** Whether a downloaded model is kept in the origin private file system. Default `{ persist: true }`. */
  weights?: { persist?: boolean };
  /** Prefix packs to load after the model. One that is refused is told in `prefix.stats().packs`, and costs nothing else. */
  prefixPacks?: readonly (PackSource | SignedPack)[];
  /** Headers sent when the model is fetched, e.g. `authorization`. */
  headers?: Record<string, string>;
  /** Where the hub is that names are of. Default `https://huggingface.co`, or in Node what `HF_ENDPOINT` says. */
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

/** How tokens are drawn and when to end, as in OpenAI's API, and what other servers added to it. */
export interface Sampling {
  /** Default: what the context leaves. */
  max_tokens?: number;
  /** OpenAI's newer name of `max_tokens`; it wins. */
  max_completion_tokens?: number;
  /** 0 is greedy. Default 0, or 1 where `top_p`, `top_k` or `min_p` is given. */
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  seed?: number;
  /** The answer ends before the first of these, which is left out. */
  stop?: string | readonly string[];
  repetition_penalty?: number;
  frequency_penalty?: number;
  presence_penalty?: number;
  /** By token id. */
  logit_bias?: Record<string, number>;
}

export interface RequestOptions {
  /** Ends the answer and frees its sequence; KV that is done is kept. The promise or the iteration rejects with `aborted`. */
  signal?: AbortSignal;
  /** Narrows whose KV may be reused. */
  cache_salt?: string;
  /** Leaves out KV written while generating, so that a reused prompt gives the same bits as a computed one. */
  exact?: boolean;
  /** Reuses no KV, and keeps none beyond the GPU. */
  no_cache?: boolean;
  /**
   * Hears how far the prompt is: at least once, with all of it done, before the first token. After a lost device it is read
   * anew.
   */
  onPromptProgress?: (progress: PromptProgress) => void;
}

/** So many of the prompt's `total` tokens are computed, or were known. */
export interface PromptProgress {
  done: number;
  total: number;
}

export interface Rendering {
  tools?: readonly Tool[];
  /** Variables of the chat template, e.g. `{ enable_thinking: false }`. */
  template_kwargs?: Record<string, unknown>;
  /**
   * What was thought before the last question: `"keep"` it, where the template can, or `"strip"` it. Default: as the
   * template does. Where it is left out, the answer behind it is computed anew.
   */
  past_thinking?: "keep" | "strip";
  /** `true`: control tokens that messages and tools spell out, such as `<|im_end|>`, stay text. Default `false`. */
  split_special_tokens?: boolean;
  /** The time the template sees, in seconds since 1970. Default: now, by the clock. */
  now?: number;
}

export interface ChatRequest extends Sampling, RequestOptions, Rendering {
  messages: readonly ChatMessage[];
  /** `false` ends the prompt behind the last message. Default `true`: the answer begins a new turn. */
  add_generation_prompt?: boolean;
  /** The answer goes on with the last message. */
  continue_final_message?: boolean;
  stream?: boolean;
  /** Ignored: there is one model. Accepted so that code for other clients runs. */
  model?: string;
}

export interface CompletionRequest extends Sampling, RequestOptions {
  /** Text as it is, or token ids. No chat template. */
  prompt: string | readonly number[] | Uint32Array;
  /** `false` gives a text to the model without the BOS it asks for. Default `true`. */
  add_special_tokens?: boolean;
  stream?: boolean;
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
  /** Prompt tokens that were computed, a second. */
  prefill_tok_s: number;
  decode_tok_s: number;
}

/** What an answer says beyond OpenAI's shape. */
export interface Account {
  cache: CacheReport;
  timings: Timings;
  /** How often the device was lost and the answer went on with a new one. */
  recovered: number;
  /**
   * `context` where the context, or the memory for it, was full before `max_tokens`; then `finish_reason` is `length`.
   * `cancelled` after `abort()`; then it is `stop`.
   */
  finish: "stop" | "length" | "context" | "cancelled";
  /** What the request may not expect of its prompt, a sentence each: tools that the chat template drops, for one. */
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
  /** The first chunk has the role, those between have text, the last has the reason. */
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
  /** In a stream each has a piece of the text, and `finish_reason` is null but in the last. */
  choices: [{ index: 0; text: string; finish_reason: FinishReason | null }];
  /** In a stream in the last piece only. */
  usage?: Usage;
  headstart?: Account;
}

/**
 * Pieces of one answer, to be read once. Of one that nobody reads some wait, and then it stands still. Leaving a `for await` loop over
 * it, letting go of it, or `abort()` frees the sequence and keeps its KV.
 */
export interface AnswerStream<T> extends AsyncIterable<T> {
  /** Ends the answer as it is: the iteration goes on to the last chunk, whose account says `cancelled`, and ends without an error. */
  abort(): void;
  /** The chunks as a stream, e.g. for a `Response`. Instead of iterating, not beside it. */
  toReadableStream(): ReadableStream<T>;
}

// ---- prefixes ----

/** What a prefix is made of. */
export interface Prefix extends Rendering {
  messages: readonly ChatMessage[];
  cache_salt?: string;
}

export type PackSource = string | URL | Blob;

/** A pack that is refused unless it has been signed with a key, as `headstart prefix export --sign` shows it. */
export interface SignedPack {
  url: PackSource;
  /** 64 hex digits. */
  key: string;
}

/** What computing some blocks of a pack anew found: they are what this adapter computes. */
export interface PackAudit {
  /** Blocks of 16 tokens that the pack has. */
  blocks: number;
  /** Those that were computed and compared. */
  checked: number[];
  /** Every bit of them is the same. */
  exact: boolean;
  /** How far values are apart, as a part of their size: above 0 only with `otherAdapter`. */
  largest: number;
  /** The adapter that made the pack, as it says. */
  device: string | null;
}

export interface LoadPackOptions {
  /** Take it only if it was signed with this key. */
  key?: string;
  /** Whose requests may use it: those with the same salt. */
  cache_salt?: string;
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export interface PackInfo {
  name: string;
  tokens: number;
  bytes: number;
}

/** One tier of KV, counted since the engine was made. */
export interface TierStats {
  name: string;
  hits: number;
  misses: number;
  /** Blobs found and refused, by reason. */
  rejected: Record<string, number>;
  failures: number;
  loaded_bytes: number;
  load_ms: number;
  saved: number;
  saved_bytes: number;
  dropped: number;
}

/** What a store holds. */
export interface StoreUsage {
  entries: number;
  bytes: number;
  evicted: number;
  failures: number;
}

export interface CacheStats {
  /** KV pages of 16 tokens on the GPU: in all, in use by sequences, and kept for reuse. */
  pages: { total: number; used: number; cached: number };
  /** From the fastest down. */
  tiers: TierStats[];
  /** The store on disk; null without one. */
  store: (StoreUsage & { name: "opfs" | "indexeddb" | "directory"; budget_bytes: number }) | null;
  packs: (PackInfo & { source: string; error?: undefined } | { source: string; error: { code: ErrorCode; message: string } })[];
  /** What decoding costs per token, as `headstart bench` prints it. */
  counters?: Record<string, number>;
}

export interface RenderedPrompt {
  tokens: number[];
  /** The text of each token. A character that is cut shows as U+FFFD. */
  pieces: string[];
  /** For each token the index of the message that owns it, -1 for the template. */
  message: number[];
}

export interface Adapter {
  name: string;
  backend: string;
  driver: string;
}

// ---- the engine ----

/** A model that is ready. The same interface in this thread (`headstart`) and in a worker (`headstart/worker`). */
export interface HeadstartInterface {
  /** The model's name: its file's, or of several files that of their directory, where it is known. */
  readonly model: string;
  readonly adapter: Adapter;
  /** Longest sequence in tokens. */
  readonly context: number;
  /** SHA-256 of the weights, 64 hex digits. */
  readonly weightsDigest: string;
  /** Whether the model has a chat template; without one only `completions` work. */
  readonly hasTemplate: boolean;
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: TextCompletions;
  readonly prefix: Prefixes;
  /** The tokens that a completion request with this prompt would have: with BOS, where the model asks for it. */
  tokenize(text: string): Promise<Uint32Array>;
  detokenize(tokens: Uint32Array | readonly number[]): Promise<string>;
  /** The prompt that a chat request with these messages would be. */
  renderPrompt(messages: readonly ChatMessage[], options?: Rendering): Promise<RenderedPrompt>;
  /** Ends all answers, writes what waits, and frees the device. Calls after it reject with `disposed`. */
  dispose(): Promise<void>;
}

export interface ChatCompletions {
  create(request: ChatRequest & { stream: true }): Promise<AnswerStream<ChatCompletionChunk>>;
  create(request: ChatRequest & { stream?: false }): Promise<ChatCompletion>;
  create(request: ChatRequest): Promise<ChatCompletion | AnswerStream<ChatCompletionChunk>>;
}

export interface TextCompletions {
  create(request: CompletionRequest & { stream: true }): Promise<AnswerStream<Completion>>;
  create(request: CompletionRequest & { stream?: false }): Promise<Completion>;
  create(request: CompletionRequest): Promise<Completion | AnswerStream<Completion>>;
}

export interface Prefixes {
  /** Computes a prefix, so that the next request that begins with it does not. */
  warm(prefix: readonly ChatMessage[] | Prefix): Promise<CacheReport>;
  /** A prefix as one file, for others with the same model. It holds the messages' tokens: what was said can be read from it. */
  export(prefix: readonly ChatMessage[] | Prefix, options?: { name?: string }): Promise<Blob>;
  /** Takes a pack in. Rejects with `pack_rejected` if it is damaged or of another model. */
  import(pack: Blob | BufferSource, options?: { cache_salt?: string; key?: string }): Promise<PackInfo>;
  /**
   * Computes blocks of a pack anew, 8 or `blocks`, chosen at random, and compares every bit. Rejects with `pack_rejected` at the first
   * that this adapter computes otherwise; no answer may be under way. `otherAdapter`: values need only be close; little is proved.
   */
  audit(pack: Blob | BufferSource, options?: { blocks?: number; otherAdapter?: boolean; cache_salt?: string }): Promise<PackAudit>;
  load(url: string | URL, options?: LoadPackOptions): Promise<PackInfo>;
  stats(): Promise<CacheStats>;
  /** What the cache could reuse of `prompt` if it knew `known`, and why not more. */
  explain(known: Prefix | readonly ChatMessage[], prompt: Prefix | readonly ChatMessage[]): Promise<Explanation>;
  /** Forgets all KV: on the GPU, in memory and on disk. Weights stay; `clearWeights()` removes those. */
  clear(): Promise<void>;
}
