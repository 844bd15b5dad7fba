/**
 * The disk in Node: a directory that only its owner can read.
 *
 * A file is written under a temporary name and then renamed, which replaces the old one atomically. Temporary files that a dead process
 * left are removed after an hour.
 */

// Whole modules, since older versions of Node lack some of their functions: the package must load there to say so.
import * as fs from "node:fs";
import * as files from "node:fs/promises";
import { chmod, mkdir, open, readdir, rename, rm, stat, unlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import type { Disk } from "../disk/disk.js";
import { HeadstartError } from "../errors.js";

const PRIVATE_DIRECTORY = 0o700;
const PRIVATE_FILE = 0o600;
const TEMPORARY = ".tmp";
const STALE_MS = 60 * 60 * 1000;

/** `headstart/node` in the platform's cache directory. */
export function cacheDirectory(): string {
  const { env, platform } = process;
  const given = platform === "win32" ? env.LOCALAPPDATA : platform === "darwin" ? undefined : env.XDG_CACHE_HOME;
  const usual = { win32: "AppData/Local", darwin: "Library/Caches" }[platform] ?? ".cache";
  return join(given && isAbsolute(given) ? given : join(homedir(), usual), "headstart", "node");
}

/** Checks that a directory belongs to this user alone, and closes it to readers. */
async function close(root: string): Promise<void> {
  const { uid, mode } = await stat(root);
  if (process.platform === "win32") return;
  if (uid !== process.geteuid?.()) throw new Error("it belongs to another user");
  if ((mode & 0o022) !== 0) throw new Error("other users can write to it");
  if ((mode & 0o077) !== 0) await chmod(root, PRIVATE_DIRECTORY);
}

export class Directory implements Disk {
  readonly name = "directory";
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** @throws {HeadstartError} `storage` where it cannot be made */
  static async open(root: string): Promise<Directory> {
    try {
      await mkdir(root, { recursive: true, mode: PRIVATE_DIRECTORY });
      await close(root);
    } catch (error) {
      throw new HeadstartError("storage", `${root} cannot be used: ${String(error)}; choose another directory`, {}, error);
    }
    return new Directory(root);
  }

  read(folder: string, file: string): Promise<Blob | undefined> {
    const path = this.#path(folder, file);
    return orAbsent(async () => {
      const { mtimeMs } = await stat(path);
      return Object.assign(await fs.openAsBlob(path), { lastModified: mtimeMs });
    });
  }

  async write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const path = this.#path(folder, file);
    const temporary = `${path}.${crypto.randomUUID()}${TEMPORARY}`;
    try {
      await mkdir(dirname(path), { recursive: true, mode: PRIVATE_DIRECTORY });
      const handle = await open(temporary, "wx", PRIVATE_FILE);
      try {
        await handle.writeFile(bytes);
        await handle.datasync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      if (!["ENOSPC", "EDQUOT"].includes(codeOf(error))) throw error;
      throw Object.assign(new Error(`no room for ${path}`, { cause: error }), { name: "QuotaExceededError" });
    }
  }

  async remove(folder: string, file: string): Promise<boolean> {
    const removed = await orAbsent(async () => {
      await unlink(this.#path(folder, file));
      return true;
    });
    return removed ?? false;
  }

  removeFolder(folder: string): Promise<void> {
    return rm(this.#path(folder), { recursive: true, force: true });
  }

  async list(folder: string, what: "files" | "folders"): Promise<string[]> {
    const entries = (await orAbsent(() => readdir(this.#path(folder), { withFileTypes: true }))) ?? [];
    const kept = entries.filter((entry) => (what === "files" ? entry.isFile() : entry.isDirectory()));
    const temporary = kept.filter(({ name }) => name.endsWith(TEMPORARY));
    await Promise.all(temporary.map(({ name }) => this.#removeStale(this.#path(folder, name))));
    return kept.filter((entry) => !temporary.includes(entry)).map(({ name }) => name);
  }

  async available(): Promise<number | undefined> {
    const { bavail, bsize } = await files.statfs(this.#root);
    return bavail * bsize;
  }

  #path(...names: string[]): string {
    return join(this.#root, ...names);
  }

  async #removeStale(path: string): Promise<void> {
    await orAbsent(async () => {
      if (Date.now() - (await stat(path)).mtimeMs > STALE_MS) await unlink(path);
    });
  }
}

async function orAbsent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? "";
}
