// The tests' methods in a page, with a store in the origin private file system.

import init, * as wasm from "/wasm/headstart.js";
import { methods, sign } from "/page/methods.js";

/** A minimal store that keeps KV over a reload. */
class FolderStore {
  name = "opfs";
  #folder;
  #keys;

  static async open(name) {
    const store = new FolderStore();
    store.#folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true });
    store.#keys = new Set();
    for await (const key of store.#folder.keys()) store.#keys.add(key);
    return store;
  }

  sign = sign;

  async get(key) {
    if (!this.#keys.has(key)) return undefined;
    const file = await (await this.#folder.getFileHandle(key)).getFile();
    return new Uint8Array(await file.arrayBuffer());
  }

  async put(key, bytes) {
    const writable = await (await this.#folder.getFileHandle(key, { create: true })).createWritable();
    await writable.write(bytes);
    await writable.close();
    this.#keys.add(key);
  }

  async contains(keys) {
    return keys.map((key) => this.#keys.has(key));
  }

  async remove(key) {
    if (this.#keys.delete(key)) await this.#folder.removeEntry(key);
  }

  async clear() {
    for (const key of [...this.#keys]) await this.remove(key);
  }

  keys() {
    return [...this.#keys];
  }

  touch() {}

  async flush() {}

  usage() {
    return { entries: this.#keys.size, bytes: 0, evicted: 0, failures: 0 };
  }
}

globalThis.hs = methods({
  origin: location.origin,
  async loadWasm() {
    const { memory } = await init({ module_or_path: "/wasm/headstart_bg.wasm" });
    return { ...wasm, memory: () => memory.buffer.byteLength };
  },
  openStore: (name) => FolderStore.open(name),
});
globalThis.ready = true;
