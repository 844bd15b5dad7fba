/**
 * WebGPU in Node: the package `webgpu`, which is Dawn.
 *
 * The engine looks for WebGPU where a page has it. `Window` and `navigator.gpu` exist only while an engine opens its device: other
 * modules would take them for a page, and Node does not exit while they hold Dawn. WebGPU's classes stay, since they distinguish errors.
 */

import { HeadstartError } from "../errors.js";
import { withSubgroups } from "../webgpu.js";

const MISSING = "Node needs the package webgpu, which is not installed: npm i webgpu";
const NO_ADAPTER =
  "WebGPU finds no graphics card: install the card's Vulkan driver; on Linux, Mesa's lavapipe computes without a card";

/** All that was used. Dawn crashes when it is collected before its devices have ended what they do. */
const used = new Set<object>();
let dawn: object | undefined;

/** Engines open their devices one after another. */
let turn: Promise<unknown> = Promise.resolve();

/** The given WebGPU, or else Dawn. WebGPU's classes are then global. */
export async function openGpu(given: object | undefined): Promise<object> {
  try {
    const { create, globals } = await import("webgpu");
    for (const [name, value] of Object.entries(globals)) {
      if (!(name in globalThis)) Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
    }
    const gpu = given ?? (dawn ??= create([]));
    used.add(gpu);
    return gpu;
  } catch (error) {
    if (given) return given;
    throw new HeadstartError("no_webgpu", (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND" ? MISSING : `webgpu does not load: ${String(error)}`, {}, error);
  }
}

export async function requireAdapter(gpu: object): Promise<void> {
  const { requestAdapter } = gpu as { requestAdapter?(): Promise<unknown> };
  if (await requestAdapter?.call(gpu).catch(() => null)) return;
  throw new HeadstartError("no_adapter", NO_ADAPTER);
}

/** Runs `work` while `gpu`, with subgroups, is available as in a page. */
export function withGpu<T>(gpu: object, work: () => Promise<T>): Promise<T> {
  const done = turn.then(async () => {
    const { navigator = {} } = globalThis;
    const restore = [put(navigator, "gpu", withSubgroups(gpu)), put(globalThis, "navigator", navigator), put(globalThis, "Window", class Window {})];
    try {
      return await work();
    } finally {
      for (const undo of restore) undo();
    }
  });
  turn = done.catch(() => undefined);
  return done;
}

/** Sets a property. The result restores the previous one. */
function put(object: object, name: string, value: unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(object, name);
  Object.defineProperty(object, name, { configurable: true, value });
  return () => {
    if (before) Object.defineProperty(object, name, before);
    else delete (object as Record<string, unknown>)[name];
  };
}
