/**
 * KV on this origin's disk: one file for each block, named by its key, within a budget and a time to live.
 *
 * The engine trusts no block: it checks each digest and each MAC of `sign`, so a store may lose blocks, and wrong blocks do no harm. The
 * files are authoritative. An index keeps the order of use and the expiry times. Several tabs write it, with a delay; a file that it
 * does not list counts from its modification time. Up to 64 MiB of writes are queued, and reads find queued blocks.
 *
 * The engine's manifests tell which blocks follow a prefix. They have their own folder and a small budget, so that they outlive the
 * blocks.
 */

import { type Disk, readJson, writeJson } from "../disk/disk.js";
import { locked } from "../disk/lock.js";
import type { KvStore } from "../wasm/headstart.js";
import type { Sign } from "./key.js";
import { Lru } from "./lru.js";

export interface StoreOptions {
  budgetBytes: number;
  ttlMs: number;
  /** Authenticates what is kept. */
  sign: Sign;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

const BLOCKS = "kv";
const MANIFESTS = "kv-manifests";
/** The name of a manifest ends with `manifest` in hexadecimal. */
const MANIFEST = /6d616e6966657374$/;
const LEAST_FOR_MANIFESTS = 256 << 10;
const INDEX = "index.json";
const KEY = /^[0-9a-f]{64}$/;
const MAX_QUEUED = 64 << 20;
const SAVE_MS = 2_000;

/** Key, bytes, expiry; from the least to the most recently used. */
type Saved = { version: 1; entries: [string, number, number][] };

export class DiskStore implements KvStore {
  readonly name: string;
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #ttl: number;
  readonly #clock: () => number;
  readonly sign: Sign;
  readonly #lru = new Lru();
  readonly #queue = new Map<string, Uint8Array<ArrayBuffer>>();
  #budget: number;
  #queued = 0;
  #writing: Promise<void> | undefined;
  #evicted = 0;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The store of the manifests; only the store of the blocks has one. */
  #manifests: DiskStore | undefined;

  private constructor(disk: Disk, folder: string, options: StoreOptions) {
    this.name = disk.name;
    this.#disk = disk;
    this.#folder = folder;
    this.#budget = options.budgetBytes;
    this.#ttl = options.ttlMs;
    this.#clock = options.clock ?? Date.now;
    this.sign = options.sign;
  }

  static async open(disk: Disk, options: StoreOptions): Promise<DiskStore> {
    const store = new DiskStore(disk, BLOCKS, options);
    const budgetBytes = Math.max(options.budgetBytes / 32, LEAST_FOR_MANIFESTS);
    store.#manifests = new DiskStore(disk, MANIFESTS, { ...options, budgetBytes });
    await Promise.all([store.#save(), store.#manifests.#save()]);
    return store;
  }

  get budget(): number {
    return this.#budget;
  }

  /** The first `most` bytes of a value, or all if it has fewer. */
  get(key: string, most?: number): Promise<Uint8Array | undefined> {
    return this.#home(key).#get(key, most);
  }

  put(key: string, bytes: Uint8Array, ttlMs = this.#ttl): Promise<void> {
    return this.#home(key).#put(key, bytes, ttlMs);
  }

  remove(key: string): Promise<boolean> {
    return this.#home(key).#remove(key);
  }

  #home(key: string): DiskStore {
    return (MANIFEST.test(key) && this.#manifests) || this;
  }

  async #get(key: string, most?: number): Promise<Uint8Array | undefined> {
    const queued = this.#queue.get(key);
    if (queued) return queued.slice(0, most);
    if (!KEY.test(key) || this.#expired(key)) return undefined;
    try {
      const file = await this.#disk.read(this.#folder, key);
      if (!file) {
        this.#lru.delete(key);
        return undefined;
      }
      const bytes = new Uint8Array(await file.slice(0, most).arrayBuffer());
      this.#lru.set(key, { bytes: file.size, expires: this.#lru.get(key)?.expires ?? this.#clock() + this.#ttl });
      return bytes;
    } catch {
      this.#failures++;
      return undefined;
    }
  }

  async #put(key: string, bytes: Uint8Array, ttlMs: number): Promise<void> {
    if (!KEY.test(key) || bytes.length > this.#budget) {
      this.#failures++;
      return;
    }
    while (this.#queued + bytes.length > MAX_QUEUED && this.#writing) await this.#writing;
    this.#unqueue(key);
    this.#queue.set(key, bytes as Uint8Array<ArrayBuffer>);
    this.#queued += bytes.length;
    this.#lru.set(key, { bytes: bytes.length, expires: this.#clock() + ttlMs });
    this.#writing ??= this.#drain();
  }

  contains(keys: string[]): Promise<boolean[]> {
    return Promise.all(keys.map((key) => this.#contains(key)));
  }

  async #remove(key: string): Promise<boolean> {
    const queued = this.#unqueue(key);
    this.#lru.delete(key);
    this.#saveSoon();
    return (await this.#delete(key)) || queued;
  }

  async clear(): Promise<void> {
    this.#queue.clear();
    this.#queued = 0;
    await this.#writing;
    this.#lru.clear();
    await locked(this.#folder, undefined, () => this.#disk.removeFolder(this.#folder));
    await this.#manifests?.clear();
  }

  touch(keys: string[]): void {
    this.#lru.touch(keys);
    this.#saveSoon();
  }

  async flush(): Promise<void> {
    await this.#writing;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#save();
    await this.#manifests?.flush();
  }

  usage(): { entries: number; bytes: number; evicted: number; failures: number } {
    return { entries: this.#lru.size, bytes: this.#lru.bytes, evicted: this.#evicted, failures: this.#failures };
  }

  /** Another tab may have written a key that this one does not know. */
  async #contains(key: string): Promise<boolean> {
    if (this.#queue.has(key)) return true;
    if (!KEY.test(key) || this.#expired(key)) return false;
    return this.#lru.get(key) !== undefined || (await this.#disk.read(this.#folder, key).catch(() => undefined)) !== undefined;
  }

  #expired(key: string): boolean {
    return (this.#lru.get(key)?.expires ?? Infinity) <= this.#clock();
  }

  #unqueue(key: string): boolean {
    this.#queued -= this.#queue.get(key)?.length ?? 0;
    return this.#queue.delete(key);
  }

  /** Writes the queue, one block after another. */
  async #drain(): Promise<void> {
    for (const [key, bytes] of this.#queue) {
      await this.#evict();
      const written = await this.#write(key, bytes);
      // Unless it was removed, or queued anew, in the meantime.
      if (this.#queue.get(key) === bytes) this.#unqueue(key);
      else if (!this.#queue.has(key) && !this.#lru.get(key)) await this.#delete(key);
      if (!written) this.#lru.delete(key);
    }
    this.#writing = undefined;
    this.#saveSoon();
  }

  async #write(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
    try {
      await this.#disk.write(this.#folder, key, bytes);
      return true;
    } catch (error) {
      this.#failures++;
      // The origin has less room than the budget, so the budget becomes what fits.
      if ((error as Error)?.name === "QuotaExceededError") this.#budget = Math.max(0, this.#lru.bytes - this.#queued);
      return false;
    }
  }

  async #evict(): Promise<void> {
    const { expired, evicted } = this.#lru.evict(this.#budget, this.#clock());
    this.#evicted += evicted.length;
    for (const key of [...expired, ...evicted]) {
      this.#unqueue(key);
      await this.#delete(key);
    }
  }

  async #delete(key: string): Promise<boolean> {
    try {
      return KEY.test(key) && (await this.#disk.remove(this.#folder, key));
    } catch {
      this.#failures++;
      return false;
    }
  }

  #saveSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#save();
    }, SAVE_MS);
  }

  /** Merges the index, the files and this tab's entries, evicts, and writes the index. */
  async #save(): Promise<void> {
    try {
      await locked(this.#folder, undefined, async () => {
        const saved = await readJson<Saved>(this.#disk, this.#folder, INDEX);
        const files = new Set(await this.#disk.list(this.#folder, "files"));
        await this.#merge(saved?.version === 1 && Array.isArray(saved.entries) ? saved.entries : [], files);
        await this.#evict();
        const entries = this.#lru.entries().map(([key, { bytes, expires }]) => [key, bytes, expires]);
        if (entries.length > 0 || files.has(INDEX)) await writeJson(this.#disk, this.#folder, INDEX, { version: 1, entries });
      });
    } catch {
      this.#failures++;
    }
  }

  /** Adds other tabs' entries as used before those of this tab, and drops entries without a file. */
  async #merge(saved: Saved["entries"], files: ReadonlySet<string>): Promise<void> {
    const mine = this.#lru.entries();
    this.#lru.clear();
    const known = new Set([...saved.map(([key]) => key), ...mine.map(([key]) => key)]);
    for (const key of files) {
      if (known.has(key) || !KEY.test(key)) continue;
      const file = await this.#disk.read(this.#folder, key);
      const written = (file as Partial<File> | undefined)?.lastModified ?? this.#clock();
      if (file) this.#lru.set(key, { bytes: file.size, expires: written + this.#ttl });
    }
    for (const [key, bytes, expires] of saved) {
      if (files.has(key) && bytes >= 0 && expires > 0) this.#lru.set(key, { bytes, expires });
    }
    for (const [key, entry] of mine) {
      if (files.has(key) || this.#queue.has(key)) this.#lru.set(key, entry);
    }
  }
}
