// The conversations on this device, in one store of whole conversations. They are small, and each write is atomic.

import type { Conversation } from "./conversation";

const STORE = "conversations";
/** A browser that has not opened it by then keeps nothing on this visit. */
const OPEN_MS = 10_000;

export class Database {
  readonly #open: Promise<IDBDatabase>;

  constructor(name = "headstart-demo") {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    const late = new Promise<never>((_, reject) => setTimeout(() => reject(silent()), OPEN_MS));
    this.#open = Promise.race([settled(request), late]);
    this.#open.catch(() => undefined);
  }

  async all(): Promise<Conversation[]> {
    return settled<Conversation[]>((await this.#store("readonly")).getAll());
  }

  async get(id: string): Promise<Conversation | undefined> {
    return settled<Conversation | undefined>((await this.#store("readonly")).get(id));
  }

  /** Keeps what `change` makes of what is kept, with nobody's write in between. Without a result nothing is kept. */
  async change(id: string, change: (kept: Conversation | undefined) => Conversation | undefined): Promise<Conversation | undefined> {
    const store = await this.#store("readwrite");
    const next = change(await settled<Conversation | undefined>(store.get(id)));
    if (next) await settled(store.put(next));
    else await settled(store.delete(id));
    return next;
  }

  async #store(mode: IDBTransactionMode): Promise<IDBObjectStore> {
    return (await this.#open).transaction(STORE, mode).objectStore(STORE);
  }
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? silent());
  });
}

const silent = (): Error => new Error("the browser's database did not answer");
