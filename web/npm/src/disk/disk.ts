/**
 * Folders of whole files that outlive the page: the one face that weights and KV are kept behind.
 *
 * A file is written whole or not at all, and is replaced at once, so a page closed while writing leaves nothing half
 * done, and another tab sees the old file or the new one. Nothing is trusted beyond that: who reads checks sizes or
 * digests. Four implementations: the origin private file system, IndexedDB where there is none, memory, and in Node a
 * directory (`node/directory.ts`).
 */

import { HeadstartError } from "../errors.js";
import { IndexedDb } from "./indexeddb.js";
import { Opfs } from "./opfs.js";

export interface Disk {
  readonly name: "opfs" | "indexeddb" | "memory" | "directory";
  /** A view of the file, whose bytes are read when asked for; undefined if there is none. */
  read(folder: string, file: string): Promise<Blob | undefined>;
  write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** False if there was none. */
  remove(folder: string, file: string): Promise<boolean>;
  removeFolder(folder: string): Promise<void>;
  /** Names of the files in a folder, or of the folders in it. */
  list(folder: string, what: "files" | "folders"): Promise<string[]>;
  /** Bytes that may still be stored; undefined where nobody says. */
  available(): Promise<number | undefined>;
}

/** The disk of this origin; undefined where the browser lends none, as in some private windows. */
export async function openDisk(): Promise<Disk | undefined> {
  return (await Opfs.open()) ?? (await IndexedDb.open());
}

/** Files as Blobs, which the browser keeps in memory or in temporary files of its own, as long as this object lives. */
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

/** What lies directly in a folder, by the paths of all files. */
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

/** Bytes that the origin may still store; undefined where the browser does not say. */
export async function roomOfOrigin(): Promise<number | undefined> {
  const { quota, usage } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota === undefined ? undefined : Math.max(0, quota - (usage ?? 0));
}

/** A write to `disk` that failed, as what the caller can act on. `asked`: bytes that the whole undertaking needs. */
export async function writeError(disk: Disk, thrown: unknown, asked: number): Promise<HeadstartError> {
  if ((thrown as { name?: string })?.name !== "QuotaExceededError") {
    return new HeadstartError("storage", `the model could not be kept: ${String(thrown)}`, {}, thrown);
  }
  const room = await disk.available();
  // Some browsers give an estimate that is far from what they let a page write.
  return quotaExceeded(asked, room !== undefined && room < asked ? room : undefined, thrown);
}

/** `available`: undefined where nobody says. */
export function quotaExceeded(asked: number, available: number | undefined, cause?: unknown): HeadstartError {
  const message =
    `keeping the model takes ${asked} bytes more, and there is room for ${available ?? "fewer"}; free some space, ` +
    "or load it without a copy: weights: { persist: false }";
  return new HeadstartError("quota_exceeded", message, { asked, ...(available !== undefined && { available }) }, cause);
}

/** Asks that what is kept stays, where it was not asked before. Only a page can ask, and some browsers ask the person. */
export async function persist(): Promise<void> {
  try {
    if (!(await navigator.storage.persisted())) await navigator.storage.persist();
  } catch {
    // Not there, or not for this page: then the browser may clear it when it runs short.
  }
}
