/**
 * Remembers the digests of weight files, so that a start reads a model once and not twice.
 *
 * `weights.json` in the KV directory maps a file's path and identity to its digest. The identity covers size, times, inode and sampled
 * bytes. If any of them changes, the file is hashed again. A file that was modified less than 2 seconds ago is not remembered: file
 * systems may keep times that coarsely, so another write could leave the identity unchanged. A list that is damaged, not signed with
 * this user's key, or not writable costs time only.
 */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { type Disk, readJson, writeJson } from "../disk/disk.js";
import { checkSignal } from "../errors.js";
import type { Sign } from "../kv/key.js";
import type { ModelFile } from "../wasm/headstart.js";

const ROOT = "";
const LIST = "weights.json";
const MAX_ENTRIES = 256;
const SETTLED_MS = 2_000;
const PIECE = 4 << 20;
/** Bytes of the samples at both ends, and of each sample between them. */
const SAMPLED_ENDS = 64 << 10;
const SAMPLED = 4 << 10;
const PLACES = 32;

/** The oldest entry is first. */
interface List {
  version: 2;
  entries: Entry[];
  /** MAC of the entries under this user's key. */
  mac: string;
}

interface Entry {
  /** Absolute. */
  path: string;
  identity: string;
  sha256: string;
}

export class Digests {
  readonly #disk: Disk;
  readonly #sign: Sign;

  constructor(disk: Disk, sign: Sign) {
    this.#disk = disk;
    this.#sign = sign;
  }

  /** SHA-256 of the file that is open as `handle`, 64 hex digits. */
  async of(path: string, file: ModelFile, handle: FileHandle, signal: AbortSignal | undefined): Promise<string> {
    const before = await identify(file, handle);
    const known = (await this.#read()).find((entry) => entry.path === path && entry.identity === before.identity);
    if (known) return known.sha256;
    const hash = createHash("sha256");
    for await (const piece of pieces(file)) {
      checkSignal(signal);
      hash.update(piece);
    }
    const sha256 = hash.digest("hex");
    const settled = Date.now() - before.mtimeMs >= SETTLED_MS;
    // The same identity before and after means that nobody wrote the file meanwhile.
    if (settled && (await identify(file, handle)).identity === before.identity) await this.#add({ path, identity: before.identity, sha256 });
    return sha256;
  }

  async #read(): Promise<Entry[]> {
    const list = Object(await readJson<Partial<List>>(this.#disk, ROOT, LIST)) as Partial<List>;
    if (list.version !== 2 || !Array.isArray(list.entries) || list.mac !== (await this.#mac(list.entries))) return [];
    return list.entries.filter((entry) => /^[0-9a-f]{64}$/.test(entry?.sha256));
  }

  async #mac(entries: Entry[]): Promise<string> {
    const mac = await this.#sign(new TextEncoder().encode(`headstart-weights/2\n${JSON.stringify(entries)}`));
    return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** Reads the list again, since another process may have added to it. */
  async #add(entry: Entry): Promise<void> {
    const others = (await this.#read()).filter(({ path }) => path !== entry.path);
    const entries = [...others, entry].slice(-MAX_ENTRIES);
    const list: List = { version: 2, entries, mac: await this.#mac(entries) };
    await writeJson(this.#disk, ROOT, LIST, list).catch(() => undefined);
  }
}

/** The identity of a file, which changes with its content. */
async function identify(file: ModelFile, handle: FileHandle): Promise<{ identity: string; mtimeMs: number }> {
  const { size, mtimeNs, ctimeNs, dev, ino } = await handle.stat({ bigint: true });
  const hash = createHash("sha256");
  hash.update(`${size} ${mtimeNs} ${ctimeNs} ${dev} ${ino}\n`);
  const take = async (from: number, length: number) => hash.update(await file.read(from, Math.min(length, file.size - from)));
  await take(0, SAMPLED_ENDS);
  for (let place = 1; place <= PLACES; place++) await take(Math.floor(file.size / (PLACES + 1)) * place, SAMPLED);
  await take(Math.max(0, file.size - SAMPLED_ENDS), SAMPLED_ENDS);
  return { identity: hash.digest("hex"), mtimeMs: Number(mtimeNs / 1_000_000n) };
}

async function* pieces(file: ModelFile): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < file.size; from += PIECE) yield await file.read(from, Math.min(PIECE, file.size - from));
}
