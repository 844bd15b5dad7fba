/**
 * Which entries there are, how large, and which goes first: least recently used first, never one in favour of itself.
 * Pure; every operation is O(1) beside what it removes.
 */

export interface Entry {
  bytes: number;
  /** When it is forgotten, in milliseconds since 1970. */
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

  /** As the most recently used. */
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

  /** Marks a chain, root first, as used: its root last, so that a chain loses its leaf first. */
  touch(keys: readonly string[]): void {
    for (const key of keys.toReversed()) {
      const entry = this.#entries.get(key);
      if (entry) this.set(key, entry);
    }
  }

  /** Removes what has expired, and then from the least recently used on until the rest fits. The keys removed. */
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
