// Tables: thinking and answer, and what the page says of a model before its download.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const load = async (path) => (await runnerImport(fileURLToPath(new URL(path, import.meta.url)), { logLevel: "error" })).module;
const { parts, words } = await load("../src/text/thinking.ts");
const { fit, memoryOf } = await load("../src/models/fit.ts");
const MODELS = JSON.parse(readFileSync(new URL("../../../models.json", import.meta.url), "utf8"));
const listed = (name) => MODELS.find((model) => model.name === name);

test("thinking is the text before the answer, finished or not", () => {
  const table = [
    ["", "", false, ""],
    ["Yes.", "", false, "Yes."],
    ["<thi", "", true, ""],
    ["<think>\nOne, tw", "One, tw", true, ""],
    ["<think>\nOne.\n</thi", "One.", true, ""],
    ["<think>\nOne <two", "One <two", true, ""],
    ["\n<think>\nOne.\n</think>\n\nTwo.", "One.", false, "Two."],
    // The template wrote the opening tag.
    ["One.\n</think>\nTwo.", "One.", false, "Two."],
    ["<think>\n\n</think>\n\nTwo.", "", false, "Two."],
    ["<think>One.</think>Say </think> again.", "One.", false, "Say </think> again."],
    // Mentioned, not used.
    ["The tags are <think> and </think>.", "", false, "The tags are <think> and </think>."],
    ["  indented", "", false, "  indented"],
  ];
  for (const [text, thinking, open, answer] of table) assert.deepEqual(parts(text), { thinking, open, answer }, JSON.stringify(text));
  assert.deepEqual([words(""), words(" one\ntwo  three ")], [0, 3]);
});

test("a model's memory is its weights and the KV of some thousand tokens", () => {
  // 30 layers of 3 heads of 64, keys and values of 2 bytes.
  assert.equal(memoryOf(listed("smollm2-135m")), 98_362_432 + 4096 * 30 * 2 * 3 * 64 * 2);
  assert.equal(memoryOf(listed("tinyllama-1.1b"), 1e6), 668_788_096 + 2048 * 22 * 2 * 4 * 64 * 2, "at most its context");
  assert.equal(memoryOf({ ...listed("smollm2-135m"), bytes: undefined }), null);
});

test("a verdict names the bytes and what is lacking", () => {
  const GIB = 2 ** 30;
  const { bytes: _, ...unsized } = listed("qwen3-0.6b");
  const table = [
    ["smollm2-135m", {}, "fits", /^Fits: it takes about 183\.8 MiB of memory with 4,096 tokens\.$/],
    ["smollm2-135m", { buffer: 128 * 2 ** 20, room: 10 * GIB, memory: 4 * GIB }, "fits", /^Fits/],
    ["mistral-7b", { memory: 4 * GIB }, "large", /^Too large: it takes about 4\.6 GiB .* this device has about 4\.0 GiB\.$/],
    ["qwen3-30b-a3b", {}, "large", /^Too large for most devices: it takes about 17\.7 GiB of memory with 4,096 tokens, and the graphics card must have as much\.$/],
    ["qwen3-30b-a3b", { memory: 6 * GIB }, "large", /^Too large: .* this device has about 6\.0 GiB\.$/],
    ["qwen3-4b", { memory: 4 * GIB }, "tight", /^Tight: it takes about 2\.9 GiB .*; this device has about 4\.0 GiB in all\.$/],
    ["qwen3-4b", { room: GIB }, "tight", /^Tight: .*; this browser can keep 1\.0 GiB, so each visit downloads it again\.$/],
    // 32 heads of 96: 12 KiB a token and layer.
    ["phi3-mini", { buffer: 12 * 2 ** 20 }, "tight", /at most 1,024 tokens fit a buffer of this graphics card/],
    ["phi3-mini", { buffer: 12 * 2 ** 10 * 100 }, "large", /^Too large: a buffer of this graphics card holds 100 tokens of it\.$/],
    [unsized, { room: 1, memory: 1 }, "fits", /^The download shows its size\.$/],
  ];
  for (const [model, device, level, text] of table) {
    const found = fit(typeof model === "string" ? listed(model) : model, device);
    assert.equal(found.level, level, found.text);
    assert.match(found.text, text);
  }
  assert.equal(fit(listed("qwen3-4b"), { room: GIB }, true).level, "fits", "what is kept already needs no room");
});
