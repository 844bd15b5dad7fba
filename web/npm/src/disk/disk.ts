/**
 * Folders of files that outlive the page: the interface under which weights and KV are kept.
 *
 * Writes are atomic: a page that is closed while writing leaves no partial file, and another tab sees the old file or the new one.
 * Readers check sizes or digests. There are four implementations: the origin private file system, IndexedDB if there is none, memory,
 * and a directory in Node (`node/directory.ts`).
 */

import { HeadstartError } from "../errors.js";
import { IndexedDb } from "./indexeddb.js";
import { Opfs } from "./opfs.js";

export interface Disk {
  readonly name: "opfs" | "indexeddb" | "memory" | "directory";
  /** A view of the file, which reads bytes on demand; undefined if there is no file. */
  read(folder: string, file: string): Promise<Blob | undefined>;
  write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** False if there was no file. */
  remove(folder: string, file: string): Promise<boolean>;
  removeFolder(folder: string): Promise<void>;
  /** Names of the files in a folder, or of the folders in it. */
  list(folder: string, what: "files" | "folders"): Promise<string[]>;
  /** Bytes of free space; undefined if unknown. */
  available(): Promise<number | undefined>;
}

/** The disk of this origin; undefined if the browser offers none, as in some private windows. */
export async function openDisk(): Promise<Disk | undefined> {
  return (await Opfs.open()) ?? (await IndexedDb.open());
}

/** Files as Blobs. The browser keeps them in memory or in temporary files while this object lives. */
export class MemoryDisk implements Disk {
  readonly name = "memory";
  readonly #files = new Map<string, Blob>();

  async read(folder: string, file: string): Promise<Blob | undefined> {
    return this.#files.get(`${folder}/${file}`);
  }

  async write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#files.set(`${folder}/${file}`, new Blob([bytes]));
  }

  async remove(folder: string, file: string): Promise<boolean> {
    return this.#files.delete(`${folder}/${file}`);
  }

  async removeFolder(folder: string): Promise<void> {
    for (const path of this.#files.keys()) if (path.startsWith(`${folder}/`)) this.#files.delete(path);
  }

  async list(folder: string, what: "files" | "folders"): Promise<string[]> {
    return children(this.#files.keys(), folder, what);
  }

  async available(): Promise<undefined> {}
}

/** The direct children of a folder, from the paths of all files. */
export function children(paths: Iterable<string>, folder: string, what: "files" | "folders"): string[] {
  const found = new Set<string>();
  for (const path of paths) {
    if (!path.startsWith(`${folder}/`)) continue;
    const [child, ...deeper] = path.slice(folder.length + 1).split("/");
    if (deeper.length > 0 === (what === "folders")) found.add(child!);
  }
  return [...found];
}

export async function readJson<T>(disk: Disk, folder: string, file: string): Promise<T | undefined> {
  try {
    const blob = await disk.read(folder, file);
    return blob && (JSON.parse(await blob.text()) as T);
  } catch {
    return undefined;
  }
}

export function writeJson(disk: Disk, folder: string, file: string, value: unknown): Promise<void> {
  return disk.write(folder, file, new TextEncoder().encode(JSON.stringify(value)));
}

/** Bytes that the origin may still store; undefined if the browser does not tell. */
export async function roomOfOrigin(): Promise<number | undefined> {
  const { quota, usage } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota === undefined ? undefined : Math.max(0, quota - (usage ?? 0));
}

/** The error for a failed write to `disk`. `asked`: bytes that the whole download still needs. */
export async function writeError(disk: Disk, thrown: unknown, asked: number): Promise<HeadstartError> {
  if ((thrown as { name?: string })?.name !== "QuotaExceededError") {
    return new HeadstartError("storage", `the model could not be kept: ${String(thrown)}`, {}, thrown);
  }
  const room = await disk.available();
  // Some browsers give an estimate that is far from what they let a page write.
  return quotaExceeded(asked, room !== undefined && room < asked ? room : undefined, thrown);
}

/** `available`: undefined if unknown. */
export function quotaExceeded(asked: number, available: number | undefined, cause?: unknown): HeadstartError {
  const message =
    `keeping the model needs ${asked} more bytes, and there is room for ${available ?? "fewer"}; free some space, ` +
    "or load it without a copy: weights: { persist: false }";
  return new HeadstartError("quota_exceeded", message, { asked, ...(available !== undefined && { available }) }, cause);
}

/** Asks the browser to make the storage persistent, unless it is. Only a page can ask, and some browsers ask the person. */
export async function persist(): Promise<void> {
  try {
    if (!(await navigator.storage.persisted())) await navigator.storage.persist();
  } catch {
    // Without persistent storage the browser may clear it when space runs short.
  }
}
