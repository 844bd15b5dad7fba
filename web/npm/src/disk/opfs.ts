/**
 * The disk in the origin private file system, a directory `headstart` in it.
 *
 * Files are written through a writable stream: the browser writes a copy and swaps it in on `close`. This is atomic and works in pages
 * and workers. Access handles would be faster for many small writes, but they write in place.
 */

import { type Disk, roomOfOrigin } from "./disk.js";
import { locked } from "./lock.js";

const ROOT = "headstart";

export class Opfs implements Disk {
  readonly name = "opfs";
  readonly #root: FileSystemDirectoryHandle;

  private constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  static async open(): Promise<Opfs | undefined> {
    if (!("createWritable" in (globalThis.FileSystemFileHandle?.prototype ?? {}))) return undefined;
    try {
      const top = await navigator.storage.getDirectory();
      return new Opfs(await top.getDirectoryHandle(ROOT, { create: true }));
    } catch {
      return undefined;
    }
  }

  async read(folder: string, file: string): Promise<Blob | undefined> {
    return orAbsent(async () => (await (await this.#folder(folder, false)).getFileHandle(file)).getFile());
  }

  /** Holds a lock for the file, since the browser refuses to open a file that another tab is swapping in. */
  write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return locked(`${folder}/${file}`, undefined, async () => {
      // Another tab may remove the folder meanwhile. Then the write is repeated, which creates the folder again.
      const written = await orAbsent(() => this.#write(folder, file, bytes).then(() => true));
      if (!written) await this.#write(folder, file, bytes);
    });
  }

  async #write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const handle = await (await this.#folder(folder, true)).getFileHandle(file, { create: true });
    const stream = await handle.createWritable();
    try {
      await stream.write(bytes);
      await stream.close();
    } catch (error) {
      await stream.abort().catch(() => undefined);
      throw error;
    }
  }

  async remove(folder: string, file: string): Promise<boolean> {
    const removed = await orAbsent(async () => {
      await (await this.#folder(folder, false)).removeEntry(file);
      return true;
    });
    return removed ?? false;
  }

  async removeFolder(folder: string): Promise<void> {
    const [name, ...parents] = folder.split("/").reverse();
    await orAbsent(async () => {
      const parent = await this.#folder(parents.reverse().join("/"), false);
      await parent.removeEntry(name!, { recursive: true });
    });
  }

  async list(folder: string, what: "files" | "folders"): Promise<string[]> {
    const kind = what === "files" ? "file" : "directory";
    const names: string[] = [];
    await orAbsent(async () => {
      for await (const [name, handle] of (await this.#folder(folder, false)).entries()) {
        if (handle.kind === kind) names.push(name);
      }
    });
    return names;
  }

  available(): Promise<number | undefined> {
    return roomOfOrigin();
  }

  async #folder(path: string, create: boolean): Promise<FileSystemDirectoryHandle> {
    let folder = this.#root;
    for (const name of path.split("/").filter(Boolean)) folder = await folder.getDirectoryHandle(name, { create });
    return folder;
  }
}

async function orAbsent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if ((error as DOMException).name === "NotFoundError") return undefined;
    throw error;
  }
}
