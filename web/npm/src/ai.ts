/**
 * A model for the Vercel AI SDK: `streamText({ model: languageModel(headstart), prompt })`.
 *
 * The model reads and writes text. Files are refused. Tools and JSON schemas cause warnings, since nothing forces the model to follow
 * them. Only types come from the SDK.
 */

import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4FinishReason,
  LanguageModelV4Message,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  SharedV4ProviderMetadata,
  SharedV4Warning,
} from "@ai-sdk/provider";
import { HeadstartError } from "./errors.js";
import type { Account, ChatMessage, ChatRequest, FinishReason, HeadstartInterface, Usage } from "./types.js";

/** Beside the SDK's own options: `providerOptions: { headstart: { cache_salt, exact, no_cache, min_p, … } }`. */
export function languageModel(headstart: HeadstartInterface): LanguageModelV4 {
  return {
    specificationVersion: "v4",
    provider: "headstart",
    modelId: headstart.model,
    supportedUrls: {},

    async doGenerate(options) {
      const { choices, usage, headstart: account, ...response } = await headstart.chat.completions.create({
        ...request(options),
        stream: false,
      });
      const { message, finish_reason } = choices[0];
      return {
        content: [{ type: "text", text: message.content }],
        finishReason: finishReason(finish_reason, account),
        usage: usageOf(usage),
        providerMetadata: metadata(account),
        response: { id: response.id, modelId: response.model, timestamp: new Date(response.created * 1000) },
        warnings: warnings(options),
      };
    },

    async doStream(options) {
      const answer = await headstart.chat.completions.create({ ...request(options), stream: true });
      const id = "0";
      async function* parts(): AsyncGenerator<LanguageModelV4StreamPart> {
        yield { type: "stream-start", warnings: warnings(options) };
        try {
          for await (const chunk of answer) {
            const { delta, finish_reason } = chunk.choices[0];
            if (delta.role) {
              yield { type: "response-metadata", id: chunk.id, modelId: chunk.model, timestamp: new Date(chunk.created * 1000) };
              yield { type: "text-start", id };
            }
            if (delta.content) yield { type: "text-delta", id, delta: delta.content };
            if (!finish_reason) continue;
            yield { type: "text-end", id };
            yield {
              type: "finish",
              finishReason: finishReason(finish_reason, chunk.headstart!),
              usage: usageOf(chunk.usage!),
              providerMetadata: metadata(chunk.headstart!),
            };
          }
        } catch (error) {
          yield { type: "error", error };
        }
      }
      return { stream: streamOf(parts()) };
    },
  };
}

function request(options: LanguageModelV4CallOptions): ChatRequest {
  const { maxOutputTokens, temperature, topP, topK, presencePenalty, frequencyPenalty, stopSequences, seed, abortSignal } = options;
  const fields = {
    ...(options.providerOptions?.["headstart"] as Partial<ChatRequest> | undefined),
    max_tokens: maxOutputTokens,
    temperature,
    top_p: topP,
    top_k: topK,
    presence_penalty: presencePenalty,
    frequency_penalty: frequencyPenalty,
    stop: stopSequences,
    seed,
    signal: abortSignal,
  };
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<ChatRequest>;
  return { ...given, messages: options.prompt.map(messageOf) };
}

function messageOf(message: LanguageModelV4Message): ChatMessage {
  if (message.role === "system") return { role: "system", content: message.content };
  if (message.role === "tool") {
    throw new HeadstartError("bad_request", "results of tools are not supported", { field: "messages" });
  }
  const texts = [];
  for (const part of message.content) {
    if (part.type === "text") texts.push(part.text);
    else if (part.type !== "reasoning") {
      throw new HeadstartError("bad_request", `a message has a part of the type ${part.type}, and only text is read`, { field: "messages" });
    }
  }
  return { role: message.role, content: texts.join("") };
}

function warnings({ tools, responseFormat, reasoning }: LanguageModelV4CallOptions): SharedV4Warning[] {
  const unsupported = (feature: string, asked: boolean): SharedV4Warning[] => (asked ? [{ type: "unsupported", feature }] : []);
  return [
    ...unsupported("tools", (tools?.length ?? 0) > 0),
    ...unsupported("responseFormat", responseFormat?.type === "json"),
    ...unsupported("reasoning", (reasoning ?? "provider-default") !== "provider-default"),
  ];
}

function finishReason(unified: FinishReason, { finish }: Account): LanguageModelV4FinishReason {
  return { unified, raw: finish };
}

function usageOf({ prompt_tokens, completion_tokens, prompt_tokens_details: { cached_tokens } }: Usage): LanguageModelV4Usage {
  return {
    inputTokens: { total: prompt_tokens, noCache: prompt_tokens - cached_tokens, cacheRead: cached_tokens, cacheWrite: undefined },
    outputTokens: { total: completion_tokens, text: completion_tokens, reasoning: undefined },
  };
}

/** The account of the answer as plain data, which the SDK requires. */
function metadata(account: Account): SharedV4ProviderMetadata {
  return { headstart: JSON.parse(JSON.stringify(account)) };
}

function streamOf<T>(parts: AsyncGenerator<T>): ReadableStream<T> {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: async () => void (await parts.return(undefined)),
  });
}
