// What Node lacks of a browser, as far as the package uses it: OPFS, locks, a storage estimate, a GPU.

class Missing extends Error {
  name = "NotFoundError";
}

class FileHandle {
  kind = "file";
  constructor(disk) {
    this.disk = disk;
    this.bytes = new Uint8Array();
    this.modified = Date.now();
  }
  async getFile() {
    return new File([this.bytes], "", { lastModified: this.modified });
  }
  async createWritable() {
    const parts = [];
    return {
      write: async (bytes) => void parts.push(bytes.slice()),
      close: async () => {
        const size = parts.reduce((sum, part) => sum + part.length, 0);
        if (this.disk.used + size - this.bytes.length > this.disk.quota) {
          throw Object.assign(new Error("full"), { name: "QuotaExceededError" });
        }
        this.disk.used += size - this.bytes.length;
        this.disk.writes++;
        this.bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
        this.modified = Date.now();
      },
      abort: async () => undefined,
    };
  }
}

class DirectoryHandle {
  kind = "directory";
  children = new Map();
  constructor(disk) {
    this.disk = disk;
  }
  #get(name, create, Kind) {
    if (!this.children.has(name)) {
      if (!create) throw new Missing(name);
      this.children.set(name, new Kind(this.disk));
    }
    return this.children.get(name);
  }
  async getDirectoryHandle(name, { create = false } = {}) {
    return this.#get(name, create, DirectoryHandle);
  }
  async getFileHandle(name, { create = false } = {}) {
    return this.#get(name, create, FileHandle);
  }
  async removeEntry(name) {
    const free = (handle) => {
      if (handle.kind === "file") this.disk.used -= handle.bytes.length;
      else handle.children.forEach(free);
    };
    if (!this.children.has(name)) throw new Missing(name);
    free(this.children.get(name));
    this.children.delete(name);
  }
  async *entries() {
    yield* [...this.children];
  }
}

/** Installs a browser with an empty disk; returns the disk. */
export function installBrowser({ quota = 1e12, gpu = true } = {}) {
  const disk = { quota, used: 0, writes: 0 };
  const root = new DirectoryHandle(disk);
  const held = new Map();
  globalThis.FileSystemFileHandle = FileHandle;
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: {
      gpu: gpu === false ? undefined : { requestAdapter: async () => (gpu === "no adapter" ? null : {}) },
      storage: {
        getDirectory: async () => root,
        estimate: async () => ({ quota: disk.quota, usage: disk.used }),
        persisted: async () => false,
        persist: async () => true,
      },
      locks: {
        async request(name, options, work) {
          if (options.ifAvailable && held.has(name)) return work(null);
          while (held.has(name)) {
            await held.get(name);
            options.signal?.throwIfAborted();
          }
          let release;
          held.set(name, new Promise((resolve) => (release = resolve)));
          try {
            return await work({ name });
          } finally {
            held.delete(name);
            release();
          }
        },
      },
    },
  });
  return disk;
}

/** Installs an IndexedDB with one empty object store, whose values it returns by key. */
export function installKeys() {
  const values = new Map();
  const request = (result) => {
    const made = { result: undefined };
    setTimeout(() => {
      made.result = result();
      made.onsuccess();
    });
    return made;
  };
  const store = { get: (name) => request(() => values.get(name)), put: (value, name) => request(() => void values.set(name, value)) };
  const database = { transaction: () => ({ objectStore: () => store }), close: () => undefined };
  globalThis.indexedDB = { open: () => request(() => database) };
  return values;
}
