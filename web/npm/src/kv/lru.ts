/**
 * The entries of a store with their sizes, in the order of eviction: the least recently used goes first. Pure. Every operation is O(1)
 * plus the entries that it removes.
 */

export interface Entry {
  bytes: number;
  /** When it expires, in milliseconds since 1970. */
  expires: number;
}

export class Lru {
  /** From the least to the most recently used: a Map keeps the order in which keys came. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Entry | undefined {
    return this.#entries.get(key);
  }

  /** Adds an entry as the most recently used. */
  set(key: string, entry: Entry): void {
    this.delete(key);
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
  }

  delete(key: string): boolean {
    const entry = this.#entries.get(key);
    if (!entry) return false;
    this.#bytes -= entry.bytes;
    return this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  /** Marks a chain of keys, root first, as used. The root becomes the most recently used, so that a chain loses its leaf first. */
  touch(keys: readonly string[]): void {
    for (const key of keys.toReversed()) {
      const entry = this.#entries.get(key);
      if (entry) this.set(key, entry);
    }
  }

  /** Removes expired entries, then the least recently used ones until the rest fits. Returns the removed keys. */
  evict(budget: number, now: number): { expired: string[]; evicted: string[] } {
    const expired = [...this.#entries].filter(([, entry]) => entry.expires <= now).map(([key]) => key);
    for (const key of expired) this.delete(key);
    const evicted: string[] = [];
    for (const key of this.#entries.keys()) {
      if (this.#bytes <= budget) break;
      evicted.push(key);
      this.delete(key);
    }
    return { expired, evicted };
  }

  /** From the least to the most recently used. */
  entries(): [string, Entry][] {
    return [...this.#entries];
  }
}
