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

/** A model of a MiB. */
const SMALL = { layers: 1, hidden: 256, inner: 512, heads: 4, kv: 2, head: 64, vocab: 1024, tied: true };

test("kernels are compiled while weights are read", async () => {
  const { gpu, device } = nullGpu();
  installGpu(gpu);
  const asked = [];
  device.createComputePipelineAsync = ({ label, layout, compute }) => {
    assert.ok(layout && compute.module && compute.entryPoint === "main");
    return new Promise((resolve, reject) => asked.push({ label, resolve: () => resolve({}), reject }));
  };
  const model = largeModel(SMALL);
  const told = [];
  let [first, done] = [undefined, false];
  const begin = (options) => {
    const file = zeros(model);
    const read = async (offset, length) => {
      if (offset >= model.header.length) first ??= asked.length;
      return file.read(offset, length);
    };
    return wasm.WasmEngine.load({ files: [{ ...file, read }], context: 4096, weightsDigest: "0".repeat(64), ...options }, (news) => told.push(news));
  };
  const uploaded = async () => {
    while (told.at(-1)?.stage !== "compile") await new Promise(setImmediate);
  };

  const loading = begin().finally(() => (done = true));
  await uploaded();
  const total = asked.length;
  assert.ok(total > 10 && first === total, `${first} of ${total} kernels before the first weight`);
  assert.deepEqual(told.at(-1), { stage: "compile", done: 0, total });
  asked.slice(1).forEach(({ resolve }) => resolve());
  await new Promise(setImmediate);
  assert.equal(done, false, "a pipeline is missing");
  asked[0].resolve();
  const engine = await loading;
  assert.equal(engine.info().adapter.name, "none null");
  engine.free();
  assert.deepEqual(told.filter(({ stage }) => stage === "compile").map(({ done }) => done), [...Array(total + 1).keys()]);
  assert.equal(Object.hasOwn(device, "createComputePipeline"), false);

  // One is refused, and another when nobody waits any more.
  asked.length = told.length = 0;
  const refused = begin();
  await uploaded();
  const [bad, late] = [asked.findIndex(({ label }) => label === "attention"), asked.length - 1];
  asked.slice(0, bad).forEach(({ resolve }) => resolve());
  asked[bad].reject(new Error("too many registers"));
  await assert.rejects(refused, { code: "shader", message: /^shader attention\{.*too many registers/ });
  asked[late].reject(new Error("too late"));
  await new Promise(setImmediate);
});

test("a model that does not fit is refused before its weights are read", async () => {
  const { gpu, device, buffers } = nullGpu({ maxStorageBufferBindingSize: 8 * GIB, maxBufferSize: 8 * GIB });
  installGpu(gpu);
  // The embeddings are one buffer of more than 4 GiB.
  const shape = { ...SHAPES["8B, 262k tokens, whole numbers"], layers: 1, vocab: 65_536, hidden: 17_408, heads: 136, kv: 8, tied: true };
  const model = largeModel(shape);
  globalThis.GPUOutOfMemoryError = class {};
  device.popErrorScope = async () => (buffers.at(-1)?.label === "the KV cache" ? new GPUOutOfMemoryError() : null);
  const reads = {};
  await assert.rejects(load(zeros(model, reads)), { code: "out_of_memory", message: /the KV cache/ });
  assert.deepEqual(Object.keys(reads), ["header"], "tensors were read");
  assert.deepEqual(buffers.filter(({ label }) => label === "the embeddings").map(({ size }) => size), [model.tensors[0].bytes]);
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
