// Clients over the mock engine: in this thread, and over a real message channel as over a worker.
import { MessageChannel } from "node:worker_threads";
import { Client, coreOptions } from "../../dist/client.js";
import { openCore } from "../../dist/core/open.js";
import { RemoteCore, serve } from "../../dist/core/remote.js";
import { mockWasm } from "./engine.mjs";

const nothing = () => undefined;

export async function local(control = {}, options = {}) {
  const wasm = mockWasm(control);
  const given = { model: new Blob(["model"]), ...options };
  const { onProgress = nothing, signal } = given;
  return new Client(await openCore(coreOptions(given), async () => wasm, onProgress, signal)).loadPacks(given);
}

export async function remote(control = {}, options = {}) {
  const wasm = mockWasm(control);
  const given = { model: new Blob(["model"]), ...options };
  const { onProgress = nothing, signal } = given;
  const data = coreOptions(given);
  const { port1, port2 } = new MessageChannel();
  serve(port2, (options, onProgress) => openCore(options, async () => wasm, onProgress, undefined));
  port1.terminate = () => {
    control.terminated = true;
    port1.close();
  };
  return new Client(await RemoteCore.open(port1, data, onProgress, signal)).loadPacks(given);
}

export const say = (content) => [{ role: "user", content }];

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export const textOf = (chunks) => chunks.map(({ choices: [choice] }) => choice.delta?.content ?? choice.text ?? "").join("");
