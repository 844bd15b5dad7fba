/** The disk in IndexedDB, for browsers and windows without a private file system: one object store, a Blob by path. */

import { type Disk, children, roomOfOrigin } from "./disk.js";

const DATABASE = "headstart";
const FILES = "files";

export class IndexedDb implements Disk {
  readonly name = "indexeddb";
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  static async open(): Promise<IndexedDb | undefined> {
    if (!globalThis.indexedDB) return undefined;
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(FILES);
      return new IndexedDb(await done(request));
    } catch {
      return undefined;
    }
  }

  read(folder: string, file: string): Promise<Blob | undefined> {
    return done(this.#files("readonly").get(`${folder}/${file}`));
  }

  async write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#change((files) => files.put(new Blob([bytes]), `${folder}/${file}`));
  }

  async remove(folder: string, file: string): Promise<boolean> {
    const path = `${folder}/${file}`;
    const there = (await done(this.#files("readonly").count(path))) > 0;
    await this.#change((files) => files.delete(path));
    return there;
  }

  async removeFolder(folder: string): Promise<void> {
    await this.#change((files) => files.delete(within(folder)));
  }

  async list(folder: string, what: "files" | "folders"): Promise<string[]> {
    const paths = await done(this.#files("readonly").getAllKeys(within(folder)));
    return children(paths as string[], folder, what);
  }

  available(): Promise<number | undefined> {
    return roomOfOrigin();
  }

  #files(mode: IDBTransactionMode): IDBObjectStore {
    return this.#database.transaction(FILES, mode).objectStore(FILES);
  }

  /** Resolves when the change is committed. */
  #change(work: (files: IDBObjectStore) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(FILES, "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
      work(transaction.objectStore(FILES));
    });
  }
}

/** All paths in a folder: "0" comes right after "/". */
function within(folder: string): IDBKeyRange {
  return IDBKeyRange.bound(`${folder}/`, `${folder}0`, false, true);
}

export function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
