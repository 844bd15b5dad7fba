// Models with more bytes than WebAssembly's 32-bit `usize` can count, in Node without a window, a disk or a graphics card.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { beforeEach, test } from "node:test";

import { SHAPES, largeModel, zeros } from "./large.mjs";
import { nullGpu } from "./null-gpu.mjs";
import { installGpu, loadWasm } from "./wasm.mjs";

const MIB = 1 << 20;
const GIB = 1 << 30;

let wasm;
beforeEach(async () => (wasm = await loadWasm()));

const load = (file, options = {}) =>
  wasm.WasmEngine.load({ files: [file], context: 4096, memoryBytes: 0, weightsDigest: "0".repeat(64), ...options }, () => {});

for (const [title, shape] of Object.entries(SHAPES)) {
  test(`headers: ${title}`, async (context) => {
    installGpu({ requestAdapter: async () => null });
    const model = largeModel(shape);
    const reads = {};
    // The engine requests the graphics card only after all other checks.
    await assert.rejects(load(zeros(model, reads)), ({ code }) => code === "no_adapter");
    assert.deepEqual(Object.keys(reads), ["header"], "tensors were read");
    const [header, memory] = [model.header.length / MIB, wasm.memory() / MIB];
    context.diagnostic(`${header.toFixed(1)} MiB of header, ${memory.toFixed(0)} of memory`);
    assert.ok(memory < 16 * header, `${memory} MiB of memory for ${header} of header`);
  });
}

test("a tokenizer.json that would not fit into memory is refused unread", async () => {
  installGpu({ requestAdapter: async () => null });
  const config = await readFile(new URL("../golden/tiny-odd-f16/config.json", import.meta.url));
  const unread = () => assert.fail("read");
  const files = [
    { name: "config.json", size: config.length, read: async (at, length) => config.subarray(at, at + length) },
    { name: "tokenizer.json", size: 65 * MIB, read: unread },
    { name: "model.safetensors", size: GIB, read: unread },
  ];
  await assert.rejects(wasm.WasmEngine.load({ files }, () => {}), { code: "bad_model", message: /tokenizer\.json.*more than/ });
});

test("1B whole in little memory", async (context) => {
  const { gpu, buffers } = nullGpu();
  installGpu(gpu);
  const model = largeModel(SHAPES["1B, 128k tokens"]);
  const reads = {};
  const engine = await load(zeros(model, reads));
  for (const { name, bytes } of model.tensors) assert.equal(reads[name], bytes, name);
  assert.deepEqual(buffers.filter(({ size, written }) => written > 0 && written !== size), []);
  engine.free();
  const memory = wasm.memory() / MIB;
  context.diagnostic(`${memory.toFixed(0)} MiB`);
  assert.ok(memory < 128, `${memory} MiB`);
});

test("a matrix of more than 4 GiB, cut by rows into what a binding holds", async (context) => {
  const { gpu, buffers } = nullGpu();
  installGpu(gpu);
  const model = largeModel({ ...SHAPES["8B, 262k tokens, whole numbers"], layers: 1, tied: true });
  const [embedding] = model.tensors;
  assert.ok(embedding.bytes > 4 * GIB);
  const reads = {};
  const engine = await load(zeros(model, reads));
  for (const { name, bytes } of model.tensors) assert.equal(reads[name], bytes, name);
  const parts = buffers.filter(({ label }) => label === "the embeddings");
  assert.equal(parts.reduce((sum, { size }) => sum + size, 0), embedding.bytes);
  for (const { size, written } of parts) assert.ok(size <= 128 * MIB && written === size, `${written} of ${size} bytes`);
  engine.free();
  context.diagnostic(`wasm memory ${(wasm.memory() / MIB).toFixed(0)} MiB`);
});

test("bindings of 4 GiB and more", async () => {
  const { gpu, buffers } = nullGpu({ maxStorageBufferBindingSize: 8 * GIB, maxBufferSize: 8 * GIB });
  installGpu(gpu);
  const model = largeModel({ ...SHAPES["1B, 128k tokens"], layers: 1 });
  const engine = await load(zeros(model));
  assert.deepEqual(buffers.filter(({ label }) => label === "the embeddings").map(({ size, written }) => size - written), [0]);
  engine.free();
});
