/** The public interface over a core: OpenAI's shapes, signals and streams. It is the same for both kinds of core. */

import { Answer } from "./answer.js";
import type { AnswerEvent, Core, CoreOptions, Finish } from "./core/core.js";
import { HeadstartError, aborted, checkSignal, toError } from "./errors.js";
import { downloadAll } from "./model/download.js";
import { HUB } from "./model/hub.js";
import { LISTED } from "./model/listed.js";
import { absolute, nameSources } from "./model/source.js";
import type * as T from "./types.js";
import type { EnginePrefix } from "./wasm/headstart.js";

type Packs = T.CacheStats["packs"];

/** The options for a core: URLs are absolute, and defaults are filled in. */
export function coreOptions(options: T.CreateOptions): CoreOptions {
  const { model, wasm, hub = HUB, signal, prefixPacks, ...given } = Object(options) as T.CreateOptions;
  checkSignal(signal);
  namePacks(prefixPacks);
  return {
    model: nameSources(model),
    wasm: typeof wasm === "string" || wasm instanceof URL ? absolute(wasm) : wasm,
    headers: given.headers,
    hub: absolute(hub).replace(/\/+$/, ""),
    given: plain(given),
  };
}

/** Whether a download is kept, so that the browser should not evict it. */
export function keepsDownloads({ model, given }: CoreOptions): boolean {
  return given.weights?.persist !== false && model.some(({ source }) => typeof source === "string");
}

export class Client implements T.HeadstartInterface {
  /** Known models on the Hugging Face hub, smallest first. `create({ model: listed.url })` opens one. */
  static readonly models: readonly T.ListedModel[] = LISTED.map((listed) => ({ ...listed, url: `${HUB}/${listed.repo}/resolve/main/${listed.file}` }));
  readonly chat: { readonly completions: T.ChatCompletions };
  readonly completions: T.TextCompletions;
  readonly prefix: T.Prefixes;
  readonly #core: Core;
  readonly #packs: Packs = [];

  constructor(core: Core) {
    this.#core = core;
    // TypeScript cannot infer overloads by `stream` from a method that checks it, hence the casts.
    this.chat = { completions: { create: (request: T.ChatRequest) => this.#chat(request) } as T.ChatCompletions };
    this.completions = { create: (request: T.CompletionRequest) => this.#complete(request) } as T.TextCompletions;
    this.prefix = {
      warm: async (prefix) => core.warm(enginePrefix(prefix)),
      export: async (prefix, options) => new Blob([(await core.exportPack({ ...enginePrefix(prefix), ...options })) as Uint8Array<ArrayBuffer>]),
      import: async (pack, options = {}) => this.#import(new Blob([pack]), "import", options),
      audit: async (pack, options = {}) => core.auditPack(new Blob([pack]), plain(options)),
      load: async (url, options) => this.#loadPack(absolute(url), options),
      stats: async () => ({ ...(await core.stats()), packs: [...this.#packs] }),
      explain: async (known, prompt) => core.explain(enginePrefix(known), enginePrefix(prompt)),
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

  detokenize(tokens: T.Tokens): Promise<string> {
    return this.#core.detokenize(tokens);
  }

  async renderPrompt(messages: readonly T.ChatMessage[], options: T.Rendering = {}): Promise<T.RenderedPrompt> {
    return this.#core.renderPrompt(plain(messages), plain(options));
  }

  dispose(): Promise<void> {
    return this.#core.dispose();
  }

  /** @internal */
  destroyDeviceForTest(): Promise<void> {
    return this.#core.destroyDeviceForTest();
  }

  /** Loads the packs given at creation. A refused pack appears in the statistics. */
  async loadPacks({ prefixPacks, signal }: T.CreateOptions): Promise<this> {
    try {
      for (const { pack, source, options } of namePacks(prefixPacks)) {
        try {
          if (pack instanceof Blob) await this.#import(pack, source, options);
          else await this.#loadPack(source, { ...options, ...(signal && { signal }) });
        } catch (thrown) {
          const { code, message } = toError(thrown);
          if (code === "aborted") throw aborted();
          this.#packs.push({ source, error: { code, message } });
        }
      }
      return this;
    } catch (thrown) {
      await this.dispose();
      throw thrown;
    }
  }

  async #import(pack: Blob, source: string, options: T.ImportOptions): Promise<T.PackInfo> {
    const info = await this.#core.importPack(pack, plain(options));
    this.#packs.push({ ...info, source });
    return info;
  }

  async #loadPack(url: string, { signal, onProgress, ...options }: T.LoadPackOptions = {}): Promise<T.PackInfo> {
    checkSignal(signal);
    let loaded = 0;
    const advance = (bytes: number, total = 0) => onProgress?.({ stage: "download", loaded: (loaded += bytes), total });
    return this.#import(await downloadAll(url, { signal, advance }), url, options);
  }

  async #chat(request: T.ChatRequest): Promise<T.ChatCompletion | T.AnswerStream<T.ChatCompletionChunk>> {
    const head = this.#head("chatcmpl");
    const chunk = (delta: { role?: "assistant"; content?: string }, finish_reason: T.FinishReason | null = null) =>
      ({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] }) satisfies T.ChatCompletionChunk;
    let first = true;
    const answer = await this.#answer<T.ChatCompletionChunk>(request, {}, (event) => {
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
    const { prompt } = Object(request) as T.CompletionRequest;
    const head = this.#head("cmpl");
    const piece = (text: string, finish_reason: T.FinishReason | null = null) =>
      ({ ...head, object: "text_completion", choices: [{ index: 0, text, finish_reason }] }) satisfies T.Completion;
    const input = typeof prompt === "object" && prompt ? { prompt: undefined, tokens: Array.from(prompt) } : {};
    const answer = await this.#answer<T.Completion>(request, input, (event) => {
      if (event.type === "text") return [piece(event.text)];
      return event.type === "finish" ? [{ ...piece("", finishReason(event)), ...account(event) }] : [];
    });
    if (request.stream) return answer;
    const { text, last } = await whole(answer, ({ choices }) => choices[0].text);
    return { ...last, choices: [{ ...last.choices[0], text }] };
  }

  /** Resolves when the engine has accepted the request. */
  async #answer<C>(request: T.RequestOptions, input: object, make: (event: AnswerEvent) => C[]): Promise<Answer<C>> {
    const options = Object(request) as T.RequestOptions;
    const { signal, onPromptProgress: _, ...fields } = options;
    checkSignal(signal);
    const answer = new Answer(this.#core, plain({ ...fields, ...input }), options, make);
    await answer.begun;
    return answer;
  }

  #head(kind: string): { id: string; created: number; model: string } {
    return { id: `${kind}-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.model };
  }
}

function enginePrefix(prefix: readonly T.ChatMessage[] | T.Prefix): EnginePrefix {
  return plain(Array.isArray(prefix) ? { messages: prefix } : prefix);
}

/** A request as plain data. The engine refuses unknown fields by name. */
function plain<P extends object>(request: object): P {
  try {
    const text = JSON.stringify(request, function (this: unknown, _, value) {
      // What JSON drops must be refused by its name, so it must not disappear here.
      if (typeof value === "number" && !Number.isFinite(value)) return String(value);
      return this === request && typeof value === "function" ? "a function" : value;
    });
    return JSON.parse(text) as P;
  } catch (error) {
    throw new HeadstartError("bad_request", `the request is not plain data: ${String(error)}`, {}, error);
  }
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

/** Reads an answer to its end. */
async function whole<C>(answer: Answer<C>, textOf: (chunk: C) => string | undefined): Promise<{ text: string; last: C }> {
  let text = "";
  let last: C | undefined;
  for await (last of answer) text += textOf(last) ?? "";
  if (last === undefined) throw aborted();
  return { text, last };
}

/** The packs with what each is called, and how it is imported. Throws if one is none. */
function namePacks(packs: unknown = []): { pack: T.PackSource; source: string; options: T.ImportOptions }[] {
  let field = "prefixPacks";
  try {
    return (packs as T.SignedPack[]).map((given, index) => {
      field = `prefixPacks[${index}]`;
      const { url: pack, ...options } = typeof given?.key === "string" ? given : { url: given as unknown as T.PackSource };
      return { pack, source: pack instanceof Blob ? field : absolute(pack), options };
    });
  } catch {
    throw new HeadstartError("bad_input", `${field}: packs are a list of URLs, Blobs and { url, key }`, { field });
  }
}
