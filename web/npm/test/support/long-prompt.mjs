// A prompt of 2,000 tokens that ends during its prefill: the same in Node, in a page and over a worker. `call` returns what
// `readPrompt` returns for an engine, or does `clear`.
import assert from "node:assert/strict";

const PROMPT = { content: "What is said here once is not said twice. ".repeat(48), max_tokens: 8 };
const PAGE = 16;
/** Tokens of a chunk, at most. */
const CHUNK = 512;

const read = (call, options) => call("readPrompt", { ...PROMPT, ...options });

/** In an engine that has no KV of the prompt. */
export async function abortsPrompt(call) {
  const whole = await read(call);
  const tokens = whole.usage.prompt_tokens;
  assert.deepEqual([whole.code, whole.finish, whole.read.at(-1)], [undefined, "length", tokens]);
  assert.ok(tokens > 2000 && whole.read.length > 6, `${whole.read}`);
  // Calls that wait for the GPU get one turn between two chunks: here two were answered, and two more.
  assert.ok(whole.rounds >= 2, `${whole.rounds} rounds`);

  await call("clear");
  const aborted = await read(call, { act: "abort", after: 3 });
  assert.ok(aborted.further <= 2, `${aborted.further} chunks after the abort: ${aborted.read}`);
  const { code, finish, text, usage } = aborted;
  assert.deepEqual([code, finish, text, usage.prompt_tokens, usage.completion_tokens], [undefined, "cancelled", "", tokens, 0]);

  const next = await read(call);
  const { cached_tokens } = next.usage.prompt_tokens_details;
  assertKept(cached_tokens, aborted.read, 0);
  assert.equal(next.sources.computed, tokens - cached_tokens);
  assert.equal(next.text, whole.text);
}

/** In an engine that has no KV of the prompt and keeps KV on disk; `reopen` makes another. */
export async function disposesInPrompt(call, reopen) {
  const disposed = await read(call, { act: "dispose", after: 1 });
  assert.deepEqual([disposed.code, disposed.text], ["disposed", ""]);
  await reopen();
  const found = await read(call, { act: "abort", after: 1 });
  assertKept(found.sources.disk, disposed.read, 2 * CHUNK);
}

/** All `read` tokens except a part of a page, and at most `further` unreported tokens. */
function assertKept(tokens, read, further) {
  const done = read.at(-1);
  assert.ok(tokens >= done - (done % PAGE) && tokens <= done + further, `${tokens} tokens of ${read}`);
}
