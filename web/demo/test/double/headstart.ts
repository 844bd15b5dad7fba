// A test double of the package, for tests of the page: the same interface, no model. It keeps a toy prefix cache, whose
// "disk" is localStorage, so that reuse, reloads and divergences look as they do with the real one. Never in a build.

import type {
  AnswerStream,
  CacheReport,
  ChatCompletionChunk,
  ChatMessage,
  ChatRequest,
  CreateOptions,
  HeadstartInterface,
  ListedModel,
  Prefix,
  Progress,
} from "headstart";
import listed from "../../../../models.json" with { type: "json" };
import { answerTo } from "./answers";
import { Known } from "./known";
import { cut, render } from "./tokens";
import { BYTES, keepWeights, loadedOf } from "./weights";

export { clearWeights, listWeights } from "./weights";
export type { KeptModel } from "headstart";

const PREFILL_MS = 0.4;

export class HeadstartError extends Error {
  readonly code: string;
  constructor(code: string, message: string, fields: object = {}) {
    super(message);
    this.code = code;
    Object.assign(this, fields);
  }
}

export async function requireWebGpu(): Promise<void> {
  if (!navigator.gpu) throw new HeadstartError("no_webgpu", navigator.userAgent);
}

const FAILURES: [RegExp, string, string, object][] = [
  [/nogpu/, "no_webgpu", "requestAdapter gave null", {}],
  [/missing/, "http_status", "GET missing.gguf: 404 Not Found", { status: 404 }],
  [/broken/, "bad_model", "broken.gguf: magic is 3c21646f, not GGUF", { file: "broken.gguf" }],
  [/foreign/, "cors", "foreign.gguf: the server does not let pages of this origin read it", {}],
  [/policy/, "csp", "the policy forbids it", { directive: "connect-src" }],
  [/cut/, "download", "the connection was cut at 41943040 of 98362432 bytes, 5 times", {}],
  [/huge/, "out_of_memory", "the GPU has no 2147483648 bytes for the weights; lower --context, or free GPU memory", { bytes: 2 ** 31 }],
];

export class Headstart {
  static readonly models: readonly ListedModel[] = listed.map((model) => ({ ...(model as Omit<ListedModel, "url">), url: `https://hub.example/${model.repo}/${model.file}` }));

  static async create(options: CreateOptions): Promise<HeadstartInterface> {
    const name = nameOf(options.model);
    const tick = /slow/.test(name) ? 40 : 2;
    const address = options.model instanceof URL && options.weights?.persist !== false ? options.model.href : null;
    // One tab downloads while the others wait.
    const lock = { ...(options.signal && { signal: options.signal }) };
    await (address ? navigator.locks.request(`double ${address}`, lock, () => download(options, name, address, tick)) : download(options, name, null, tick));
    fail(name, options);
    for (const [stage, total] of [["upload", BYTES], ["compile", 24]] as const) {
      for (let step = 0; step <= 12; step += 1) await reach(options, stage, Math.round((total * step) / 12), total, tick);
    }
    return engine(name.replace(/\.gguf$/, ""), options.context ?? (/small/.test(name) ? 160 : 8192));
  }
}

async function reach({ signal, onProgress }: CreateOptions, stage: Progress["stage"], loaded: number, total: number, tick: number): Promise<void> {
  if (signal?.aborted) throw new HeadstartError("aborted", "loading was aborted");
  onProgress?.({ stage, loaded, total });
  await pause(tick);
}

/** Resumes from the kept bytes. A slow one approaches its end and reaches it only when the page is in a `hurry`. */
async function download(options: CreateOptions, name: string, address: string | null, tick: number): Promise<void> {
  const crawls = () => /crawl/.test(name) && !("hurry" in globalThis);
  for (let loaded = address ? loadedOf(address) : 0; ; loaded = crawls() ? loaded + Math.floor((BYTES - loaded) / 40) : Math.min(BYTES, loaded + BYTES / 16)) {
    await reach(options, "download", loaded, BYTES, crawls() ? 50 : tick);
    if (loaded > 0) fail(name, options);
    if (address && loaded > 0) keepWeights(address, name, loaded);
    if (loaded === BYTES) return;
  }
}

function fail(name: string, options: CreateOptions): void {
  const failure = FAILURES.find(([pattern]) => pattern.test(name));
  if (failure) throw new HeadstartError(failure[1], failure[2], failure[3]);
  if (/quota/.test(name) && options.weights?.persist !== false)
    throw new HeadstartError("quota_exceeded", "98362432 bytes asked, 20971520 available", { asked: 98_362_432, available: 20_971_520 });
}

function nameOf(model: CreateOptions["model"]): string {
  if (typeof model === "string") return `${model} of the hub`;
  const first = Array.isArray(model) ? model[0] : model;
  if (first instanceof File) return first.name.replace(/-\d+-of-\d+(?=\.gguf$)/, ` of ${(model as File[]).length}`);
  return String(first).split("/").at(-1) ?? "model";
}

/** The beginning of a pack: the length of its header, and its kind. */
const HEADER = `\x7f\0\0\0\0\0\0\0{"__metadata__":{"format":"headstart-pack/1"}}`;

function engine(model: string, context: number): HeadstartInterface {
  const known = new Known();
  const messagesOf = (prefix: readonly ChatMessage[] | Prefix) => ("messages" in prefix ? prefix.messages : prefix);
  return {
    model,
    adapter: { name: "Stand-in", backend: "none", driver: "0", numerics: "f32", notes: [] },
    context,
    weightsDigest: "0".repeat(64),
    hasTemplate: true,
    chat: { completions: { create: async (request: ChatRequest) => new Answering(request, known, context) as never } },
    completions: { create: () => Promise.reject(new HeadstartError("internal", "not played")) as never },
    prefix: {
      warm: async (prefix) => known.admit(render(messagesOf(prefix))),
      export: async (prefix) => new Blob([HEADER, JSON.stringify(render(messagesOf(prefix)).tokens)]),
      async import(pack) {
        try {
          const text = await new Response(pack as Blob).text();
          if (!text.startsWith(HEADER)) throw new Error("this is no pack");
          const tokens: number[] = JSON.parse(text.slice(HEADER.length));
          known.addPack(tokens);
          return { name: "helpdesk", tokens: tokens.length, bytes: tokens.length * 23_040 };
        } catch {
          throw new HeadstartError("pack_rejected", "the pack's header is no JSON");
        }
      },
      load: () => Promise.reject(new HeadstartError("internal", "not played")),
      audit: () => Promise.reject(new HeadstartError("internal", "not played")),
      stats: async () => ({
        pages: { total: 512, used: 0, cached: known.pages() },
        tiers: [],
        store: { entries: known.stored(), bytes: known.stored() * 368_640, evicted: 0, failures: 0, name: "opfs", budget_bytes: 2 ** 30 },
        packs: [],
      }),
      explain: () => Promise.reject(new HeadstartError("internal", "not played")),
      clear: async () => known.clear(),
    },
    tokenize: async () => new Uint32Array(),
    detokenize: async () => "",
    renderPrompt: async (messages) => render(messages),
    dispose: async () => undefined,
  };
}

class Answering implements AnswerStream<ChatCompletionChunk> {
  #aborted = false;
  readonly #request: ChatRequest;
  readonly #known: Known;
  readonly #context: number;

  constructor(request: ChatRequest, known: Known, context: number) {
    this.#request = request;
    this.#known = known;
    this.#context = context;
  }

  abort(): void {
    this.#aborted = true;
  }

  toReadableStream(): ReadableStream<ChatCompletionChunk> {
    throw new HeadstartError("internal", "not played");
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatCompletionChunk> {
    const { messages, max_tokens, no_cache, signal, onPromptProgress } = this.#request;
    // Unanswered questions precede it in the same message.
    const question = String(messages.at(-1)?.content ?? "").split("\n\n").at(-1)!;
    const began = performance.now();
    const prompt = render(messages);
    const { length } = prompt.tokens;
    if (length >= this.#context)
      throw new HeadstartError("bad_request", `prompt: has ${length} tokens and the context holds ${this.#context}, the answer included; shorten it`, { field: "prompt" });
    const cache: CacheReport = this.#known.admit(prompt, no_cache === true);
    const total = cache.prompt_tokens;
    onPromptProgress?.({ done: total - cache.sources.computed, total });
    do await pause(20 + cache.sources.computed * PREFILL_MS);
    while (/until i stop you/i.test(question) && !this.#aborted);
    onPromptProgress?.({ done: total, total });
    if (/prefill fault/i.test(question)) throw new HeadstartError("bad_request", "messages: roles must alternate");
    const ttft = performance.now() - began;
    const pieces = cut(answerTo(question, messages));
    let written = 0;
    yield chunk({ role: "assistant", content: "" });
    for (const piece of pieces.slice(0, max_tokens ?? 512)) {
      if (signal?.aborted) throw new HeadstartError("aborted", "the answer was aborted");
      if (this.#aborted) break;
      if (/lose the device/i.test(question) && written === 12) throw new HeadstartError("device_lost", "the device was lost 3 times");
      await pause(/long/i.test(question) ? 12 : 2);
      written += 1;
      yield chunk({ content: piece });
    }
    // An engine that is slow to stop: it stops when the page releases it.
    if (this.#aborted && /cling/i.test(question)) await new Promise((resolve) => Object.assign(globalThis, { letGo: resolve }));
    const decode = performance.now() - began - ttft;
    const finish = this.#aborted ? "cancelled" : /context/i.test(question) ? "context" : written < pieces.length ? "length" : "stop";
    yield {
      ...chunk({}),
      choices: [{ index: 0, delta: {}, finish_reason: finish === "stop" ? "stop" : "length" }],
      usage: {
        prompt_tokens: cache.prompt_tokens,
        completion_tokens: written,
        total_tokens: cache.prompt_tokens + written,
        prompt_tokens_details: { cached_tokens: cache.prompt_tokens - cache.sources.computed },
      },
      headstart: {
        cache,
        timings: { ttft_ms: ttft, prefill_ms: ttft, decode_ms: decode, prefill_tok_s: 1000 / PREFILL_MS, decode_tok_s: (written * 1000) / Math.max(decode, 1) },
        recovered: 0,
        finish: finish as "stop",
        warnings: [],
      },
    };
  }
}

function chunk(delta: { role?: "assistant"; content?: string }): ChatCompletionChunk {
  return { id: "chat-1", object: "chat.completion.chunk", created: 0, model: "stand-in", choices: [{ index: 0, delta, finish_reason: null }] };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
