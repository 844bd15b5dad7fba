/** The public interface over a core: OpenAI's shapes, signals and streams. The same for both kinds of core. */

import { Answer } from "./answer.js";
import type { AnswerEvent, Core, CoreOptions, Finish } from "./core/core.js";
import { HeadstartError, aborted, checkSignal, toError } from "./errors.js";
import { models } from "./library/models.js";
import { Download } from "./model/download.js";
import { absolute, nameSources } from "./model/source.js";
import type * as T from "./types.js";
import type { EnginePrefix, EngineRequest } from "./wasm/headstart.js";

const DAY = 24 * 60 * 60 * 1000;
const TTL = 30 * DAY;

type Packs = T.CacheStats["packs"];

/** Options as they go to a core: URLs absolute, defaults filled in. */
export function coreOptions(options: T.CreateOptions): CoreOptions {
  if (options === null || typeof options !== "object") throw new HeadstartError("bad_input", "create() takes an object with a model");
  const { wasm, cache = {}, weights, context, kvTokens, headers } = options;
  return {
    model: nameSources(options.model),
    wasm: typeof wasm === "string" || wasm instanceof URL ? absolute(wasm) : wasm,
    context,
    kvTokens,
    headers,
    persistWeights: weights?.persist ?? true,
    cache: cache && {
      persist: cache.persist ?? true,
      budgetBytes: cache.budgetBytes,
      ttlMs: cache.ttlMs ?? TTL,
      memoryBytes: cache.memoryBytes,
      salt: cache.salt,
    },
  };
}

/** Whether something is downloaded that would be missed. */
export function keepsDownloads({ model, persistWeights }: CoreOptions): boolean {
  return persistWeights && model.some(({ source }) => typeof source === "string");
}

export class Client implements T.HeadstartInterface {
  /** Models on the Hugging Face hub that are known by name, smallest first; `create({ model: listed.url })` opens one. */
  static readonly models: readonly T.ListedModel[] = models;
  readonly chat: { readonly completions: T.ChatCompletions };
  readonly completions: T.TextCompletions;
  readonly prefix: T.Prefixes;
  readonly #core: Core;
  readonly #packs: Packs = [];

  constructor(core: Core) {
    this.#core = core;
    // Overloads by `stream` cannot be told of a method that looks at it, hence the casts.
    this.chat = { completions: { create: (request: T.ChatRequest) => this.#chat(request) } as T.ChatCompletions };
    this.completions = { create: (request: T.CompletionRequest) => this.#complete(request) } as T.TextCompletions;
    this.prefix = {
      warm: (prefix) => core.warm(enginePrefix(prefix)),
      export: async (prefix, options) => new Blob([(await core.exportPack({ ...enginePrefix(prefix), ...options })) as Uint8Array<ArrayBuffer>]),
      import: (pack, options) => this.#import(blob(pack), "import", options),
      audit: (pack, { blocks = 8, otherAdapter = false, cache_salt } = {}) => core.auditPack(blob(pack), blocks, otherAdapter, cache_salt),
      load: async (url, options) => this.#loadPack(absolute(url), options),
      stats: async () => ({ ...(await core.stats()), packs: [...this.#packs] }),
      explain: (known, prompt) => core.explain(enginePrefix(known), enginePrefix(prompt)),
      clear: async () => {
        this.#packs.length = 0;
        await core.clear();
      },
    };
  }

  get model(): string {
    return this.#core.info.model;
  }

  get adapter(): T.Adapter {
    return this.#core.info.adapter;
  }

  get context(): number {
    return this.#core.info.context;
  }

  get weightsDigest(): string {
    return this.#core.info.weightsDigest;
  }

  get hasTemplate(): boolean {
    return this.#core.info.hasTemplate;
  }

  tokenize(text: string): Promise<Uint32Array> {
    return this.#core.tokenize(text);
  }

  detokenize(tokens: Uint32Array | readonly number[]): Promise<string> {
    return this.#core.detokenize(Uint32Array.from(tokens));
  }

  renderPrompt(messages: readonly T.ChatMessage[], options: T.Rendering = {}): Promise<T.RenderedPrompt> {
    return this.#core.renderPrompt(messages, options);
  }

  dispose(): Promise<void> {
    return this.#core.dispose();
  }

  /** @internal */
  destroyDeviceForTest(): Promise<void> {
    return this.#core.destroyDeviceForTest();
  }

  /** Packs that were asked for at creation: one that is refused is told in the statistics. */
  async loadPacks(packs: readonly (T.PackSource | T.SignedPack)[], signal: AbortSignal | undefined): Promise<void> {
    for (const [index, given] of packs.entries()) {
      const { url: pack, key } = isSource(given) ? { url: given } : given;
      const source = pack instanceof Blob ? `prefixPacks[${index}]` : absolute(pack);
      const options = { ...(key !== undefined && { key }), ...(signal && { signal }) };
      try {
        if (pack instanceof Blob) await this.#import(pack, source, options);
        else await this.#loadPack(source, options);
      } catch (thrown) {
        const { code, message } = toError(thrown);
        if (code === "aborted") {
          await this.dispose();
          throw thrown;
        }
        this.#packs.push({ source, error: { code, message } });
      }
    }
  }

  async #import(pack: Blob, source: string, { cache_salt, key }: T.LoadPackOptions = {}): Promise<T.PackInfo> {
    const info = await this.#core.importPack(pack, cache_salt, key);
    this.#packs.push({ ...info, source });
    return info;
  }

  async #loadPack(url: string, options: T.LoadPackOptions = {}): Promise<T.PackInfo> {
    const { signal, onProgress } = options;
    const download = await Download.open(url, 0, {}, { signal });
    const chunks: BlobPart[] = [];
    let loaded = 0;
    for await (const chunk of download.chunks()) {
      chunks.push(chunk as Uint8Array<ArrayBuffer>);
      loaded += chunk.length;
      onProgress?.({ stage: "download", loaded, total: download.state.size ?? 0 });
    }
    checkSignal(signal);
    return this.#import(new Blob(chunks), url, options);
  }

  async #chat(request: T.ChatRequest): Promise<T.ChatCompletion | T.AnswerStream<T.ChatCompletionChunk>> {
    const { messages, add_generation_prompt, continue_final_message } = request;
    const input = { messages, ...rendering(request), add_generation_prompt, continue_final_message };
    const head = this.#head("chatcmpl");
    const chunk = (delta: { role?: "assistant"; content?: string }, finish_reason: T.FinishReason | null = null) =>
      ({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] }) satisfies T.ChatCompletionChunk;
    let first = true;
    const answer = this.#answer<T.ChatCompletionChunk>(request, input, (event) => {
      const begin = first ? [chunk({ role: "assistant", content: "" })] : [];
      first = false;
      if (event.type === "text") return [...begin, chunk({ content: event.text })];
      return event.type === "finish" ? [...begin, { ...chunk({}, finishReason(event)), ...account(event) }] : [];
    });
    if (request.stream) return answer;
    const { text, last } = await whole(answer, ({ choices: [{ delta }] }) => delta.content);
    const message = { role: "assistant", content: text } as const;
    const { usage, headstart } = last;
    const finish_reason = last.choices[0].finish_reason!;
    return { ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason }], usage: usage!, headstart: headstart! };
  }

  async #complete(request: T.CompletionRequest): Promise<T.Completion | T.AnswerStream<T.Completion>> {
    const { prompt, add_special_tokens } = request;
    const head = this.#head("cmpl");
    const piece = (text: string, finish_reason: T.FinishReason | null = null) =>
      ({ ...head, object: "text_completion", choices: [{ index: 0, text, finish_reason }] }) satisfies T.Completion;
    const input = typeof prompt === "string" ? { prompt, add_special_tokens } : { tokens: Array.from(prompt) };
    const answer = this.#answer<T.Completion>(request, input, (event) => {
      if (event.type === "text") return [piece(event.text)];
      return event.type === "finish" ? [{ ...piece("", finishReason(event)), ...account(event) }] : [];
    });
    if (request.stream) return answer;
    const { text, last } = await whole(answer, ({ choices }) => choices[0].text);
    return { ...last, choices: [{ ...last.choices[0], text }] };
  }

  #answer<C>(
    request: T.Sampling & T.RequestOptions,
    input: { [K in keyof EngineRequest]?: EngineRequest[K] | undefined },
    make: (event: AnswerEvent) => C[],
  ): Answer<C> {
    checkSignal(request.signal);
    return new Answer(this.#core, engineRequest(request, input), request, make);
  }

  #head(kind: string): { id: string; created: number; model: string } {
    return { id: `${kind}-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.model };
  }
}

const SAMPLING = [
  "temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias",
  "cache_salt", "exact", "no_cache",
] as const;

/** The engine's request: the fields it knows, and of those the ones that are there. */
function engineRequest(request: T.Sampling & T.RequestOptions, input: object): EngineRequest {
  const { stop } = request;
  return present({
    ...input,
    ...Object.fromEntries(SAMPLING.map((name) => [name, request[name]])),
    max_tokens: request.max_completion_tokens ?? request.max_tokens,
    stop: typeof stop === "string" ? [stop] : stop,
  });
}

function enginePrefix(prefix: readonly T.ChatMessage[] | T.Prefix): EnginePrefix {
  const given = "messages" in prefix ? prefix : { messages: prefix } as T.Prefix;
  return present({ messages: given.messages, ...rendering(given), cache_salt: given.cache_salt });
}

function rendering({ tools, template_kwargs, past_thinking, split_special_tokens, now }: T.Rendering) {
  return { tools, template_kwargs, past_thinking, split_special_tokens, now };
}

function present<P extends object>(fields: object): P {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as P;
}

function finishReason({ reason }: Finish): T.FinishReason {
  return reason === "length" || reason === "context" ? "length" : "stop";
}

function account({ usage, warnings, cache, timings, recovered, reason }: Finish): { usage: T.Usage; headstart: T.Account } {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = usage;
  return {
    usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, prompt_tokens_details },
    headstart: { cache, timings, recovered, finish: reason, warnings: warnings ?? [] },
  };
}

/** All of an answer. */
async function whole<C>(answer: Answer<C>, textOf: (chunk: C) => string | undefined): Promise<{ text: string; last: C }> {
  let text = "";
  let last: C | undefined;
  for await (last of answer) text += textOf(last) ?? "";
  if (last === undefined) throw aborted();
  return { text, last };
}

function blob(pack: Blob | BufferSource): Blob {
  return pack instanceof Blob ? pack : new Blob([pack]);
}

function isSource(pack: T.PackSource | T.SignedPack): pack is T.PackSource {
  return typeof pack === "string" || pack instanceof URL || pack instanceof Blob;
}
