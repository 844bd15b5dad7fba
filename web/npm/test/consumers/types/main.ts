// What the types must allow and forbid, compiled in strict mode with the declarations of libraries checked too.
import { Headstart, HeadstartError, type AnswerStream, type ChatCompletion, type ChatCompletionChunk, type Divergence, type ErrorCode, type ListedModel } from "headstart";
import { Headstart as Worker, clearWeights, listWeights } from "headstart/worker";
import { Headstart as InNode, clearWeights as clearDirectory, listWeights as listDirectory, type KeptModel, type NodeCreateOptions } from "headstart/node";
import { languageModel } from "headstart/ai";
import type { LanguageModelV4 } from "@ai-sdk/provider";

export async function use(file: File, stream: ReadableStream<Uint8Array>): Promise<void> {
  const headstart: Headstart = await Headstart.create({
    model: { "model.gguf": file },
    signal: AbortSignal.timeout(1),
    onProgress: ({ stage, loaded, total }) => console.log(stage satisfies "download" | "upload" | "compile", loaded / total),
    cache: { budgetBytes: 1, salt: "s" },
    wasm: new URL("https://example.org/headstart_bg.wasm"),
  });
  const worker = await Worker.create({ model: [file, stream, "model.gguf"], cache: false, weights: { persist: false } });
  const messages = [{ role: "system", content: "a" }, { role: "user", content: [{ type: "text", text: "b" }] }] as const;
  const whole: ChatCompletion = await headstart.chat.completions.create({ messages });
  const text: string = whole.choices[0].message.content;
  const chunks: AnswerStream<ChatCompletionChunk> = await worker.chat.completions.create({ messages, stream: true, seed: 1, stop: ["x"] });
  for await (const chunk of chunks) console.log(chunk.choices[0].delta.content?.length, chunk.headstart?.cache.sources.disk, text);
  const either: ChatCompletion | AnswerStream<ChatCompletionChunk> = await worker.chat.completions.create({ messages, stream: Math.random() > 0.5 });
  if ("choices" in either) console.log(either.usage.total_tokens);
  const divergence: Divergence | null = (await worker.prefix.explain(messages, { messages, cache_salt: "t" })).divergence;
  if (divergence?.owner === "message") console.log(divergence.role, divergence.recoverable);
  const model: LanguageModelV4 = languageModel(worker);
  await worker.prefix.import(await headstart.prefix.export(messages, { name: model.modelId }));
  for (const { source, complete } of await listWeights()) if (!complete) await clearWeights(source);
  const options: NodeCreateOptions = { model: "model.gguf", cache: { directory: "kv", ttlMs: 1 }, weights: { directory: "w" }, gpu: {} };
  await (await InNode.create(options)).dispose();
  const kept: KeptModel[] = await listDirectory({ directory: "w" });
  for (const { source, loaded, size } of kept) if (loaded < (size ?? Infinity)) await clearDirectory(source, { directory: "w" });
  await headstart.chat.completions.create({ messages, user: "u", store: false, metadata: { a: "b" }, parallel_tool_calls: true, n: 1, temperature: null });
  const listed: ListedModel | undefined = Worker.models.find(({ name, bytes }) => name === "qwen3-0.6b" && (bytes ?? 0) < 1e9);
  if (listed?.checked === "not run") await Worker.create({ model: listed.url, context: Math.min(listed.context, 4096) });
  // @ts-expect-error no model
  await Headstart.create({});
  // @ts-expect-error a role is a string
  await headstart.chat.completions.create({ messages: [{ role: 1 }] });
  // @ts-expect-error one answer at a time
  await headstart.chat.completions.create({ messages, n: 2 });
  // @ts-expect-error the tests' own interface is not public
  await headstart.destroyDeviceForTest();
}

export function told(error: unknown): string {
  if (!(error instanceof HeadstartError)) return "";
  const code: ErrorCode = error.code;
  // @ts-expect-error no such code
  if (code === "no_such_code") return "";
  return code === "quota_exceeded" ? `${error.asked} of ${error.available}` : code;
}
