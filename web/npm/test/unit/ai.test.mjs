// The Vercel AI SDK's model over the mock engine.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { languageModel } from "../../dist/ai.js";
import { installBrowser } from "../support/fakes.mjs";
import { collect, local } from "../support/create.mjs";

beforeEach(() => installBrowser());

const prompt = [
  { role: "system", content: "s" },
  { role: "user", content: [{ type: "text", text: "he" }, { type: "text", text: "llo" }] },
  { role: "assistant", content: [{ type: "reasoning", text: "hm" }, { type: "text", text: "yes" }] },
];

test("a whole answer, with its options under the engine's names", async () => {
  const control = {};
  const headstart = await local(control);
  const model = languageModel(headstart);
  assert.deepEqual([model.specificationVersion, model.provider, model.modelId], ["v4", "headstart", "mock"]);
  const answer = await model.doGenerate({
    prompt, maxOutputTokens: 4, temperature: 0, topK: 3, stopSequences: ["x"], seed: 5, providerOptions: { headstart: { exact: true } },
  });
  assert.deepEqual(control.requests[0], {
    messages: [{ role: "system", content: "s" }, { role: "user", content: "hello" }, { role: "assistant", content: "yes" }],
    max_tokens: 4, temperature: 0, top_k: 3, stop: ["x"], seed: 5, exact: true, stream: false,
  });
  assert.deepEqual(answer.content, [{ type: "text", text: "s|he" }]);
  assert.deepEqual(answer.finishReason, { unified: "length", raw: "length" });
  assert.deepEqual([answer.usage.inputTokens.total, answer.usage.inputTokens.cacheRead, answer.usage.outputTokens.total], [11, 0, 4]);
  assert.equal(answer.providerMetadata.headstart.cache.sources.computed, 11);
  await headstart.dispose();
});

test("a stream, from its start to its account", async () => {
  const headstart = await local();
  const { stream } = await languageModel(headstart).doStream({ prompt, maxOutputTokens: 3, tools: [{ type: "function", name: "t", inputSchema: {} }] });
  const parts = await collect(stream);
  assert.deepEqual(parts.map(({ type }) => type), ["stream-start", "response-metadata", "text-start", "text-delta", "text-delta", "text-delta", "text-end", "finish"]);
  assert.deepEqual(parts[0].warnings, [{ type: "unsupported", feature: "tools" }]);
  assert.equal(parts.filter(({ type }) => type === "text-delta").map(({ delta }) => delta).join(""), "s|h");
  await headstart.dispose();
});

test("an abort ends the engine's work, an error is a part, and files are refused", async () => {
  const control = {};
  const headstart = await local(control);
  const model = languageModel(headstart);
  const { stream } = await model.doStream({ prompt, maxOutputTokens: 10_000 });
  const reader = stream.getReader();
  for (let count = 0; count < 4; count++) await reader.read();
  await reader.cancel();
  await headstart.tokenize("");
  assert.equal(control.cancelled, 1);
  await assert.rejects(Promise.resolve(model.doStream({ prompt, temperature: -1 })), { code: "bad_request" });
  control.failStep = { code: "out_of_memory", message: "no room" };
  const failing = await model.doStream({ prompt });
  assert.equal((await collect(failing.stream)).at(-1).error.code, "out_of_memory");
  control.failStep = undefined;
  const file = { type: "file", mediaType: "image/png", data: "" };
  await assert.rejects(Promise.resolve(model.doGenerate({ prompt: [{ role: "user", content: [file] }] })), { code: "bad_request", field: "messages" });
  await headstart.dispose();
});
