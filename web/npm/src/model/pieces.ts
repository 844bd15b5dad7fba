/**
 * A file kept as pieces on a disk: written in order, read anywhere, and whole as soon as its record says so.
 *
 * Pieces are files of their own, so that what is written is kept piece by piece, a page closed while writing loses one
 * piece at most, and no more than one is in memory. The record names what the file was and, last of all, its SHA-256.
 */

import type { Disk } from "../disk/disk.js";
import { readJson, writeError, writeJson } from "../disk/disk.js";
import { HeadstartError } from "../errors.js";
import type { ModelFile, Sha256 } from "../wasm/headstart.js";
import type { FileState } from "./download.js";

export const PIECE = 8 << 20;
const RECORD = "record.json";

/** What is known of a kept file. It is whole if there is a `sha256`. */
export interface FileRecord extends FileState {
  version: 1;
  source: string;
  name: string;
  sha256?: string;
  /** The server had no such file. */
  absent?: boolean;
}

export async function readRecord(disk: Disk, folder: string): Promise<FileRecord | undefined> {
  const record = await readJson<FileRecord>(disk, folder, RECORD);
  return record?.version === 1 ? record : undefined;
}

export async function writeRecord(disk: Disk, folder: string, record: FileRecord): Promise<void> {
  try {
    await writeJson(disk, folder, RECORD, record);
  } catch (error) {
    throw await writeError(disk, error, 0);
  }
}

/** A file that is whole, by its record and by the sizes of its pieces; undefined otherwise. */
export async function openPieces(disk: Disk, folder: string, record: FileRecord): Promise<ModelFile | undefined> {
  const { name, size, sha256 } = record;
  if (sha256 === undefined || size === undefined) return undefined;
  const pieces: Blob[] = [];
  for (let begin = 0; begin < size; begin += PIECE) {
    const piece = await disk.read(folder, pieceName(pieces.length));
    if (piece?.size !== Math.min(PIECE, size - begin)) return undefined;
    pieces.push(piece);
  }
  return { name, size, sha256, read: (offset, length) => read(name, size, pieces, offset, length) };
}

async function read(name: string, size: number, pieces: Blob[], offset: number, length: number): Promise<Uint8Array> {
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new HeadstartError("internal", `${name}: bytes ${offset} to ${offset + length} of ${size} were asked for`);
  }
  const parts: Blob[] = [];
  for (let done = 0; done < length; done += parts.at(-1)!.size) {
    const at = offset + done;
    const begin = at % PIECE;
    parts.push(pieces[Math.floor(at / PIECE)]!.slice(begin, begin + length - done));
  }
  try {
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  } catch (error) {
    throw new HeadstartError("storage", `${name}: its copy on disk is gone; load the model again`, { file: name }, error);
  }
}

/** Writes a file's bytes from the beginning or from where another left off. */
export class PieceWriter {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #hash: Sha256;
  /** Bytes expected in all, for the message of a full disk. */
  readonly #expected: number;
  #pieces = 0;
  #piece = new Uint8Array(PIECE);
  #filled = 0;

  constructor(disk: Disk, folder: string, hash: Sha256, expected = 0) {
    this.#disk = disk;
    this.#folder = folder;
    this.#hash = hash;
    this.#expected = expected;
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#pieces * PIECE + this.#filled;
  }

  /** Takes over the full pieces that lie there already, reading them for the hash. */
  async resume(advance: (bytes: number) => void): Promise<void> {
    for (;;) {
      const piece = await this.#disk.read(this.#folder, pieceName(this.#pieces));
      if (piece?.size !== PIECE) return;
      this.#hash.update(new Uint8Array(await piece.arrayBuffer()));
      this.#pieces++;
      advance(PIECE);
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let taken = 0; taken < bytes.length; ) {
      const part = bytes.subarray(taken, taken + PIECE - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      taken += part.length;
      if (this.#filled === PIECE) await this.#commit();
    }
  }

  /** Commits what is left. The SHA-256 of all. */
  async end(): Promise<string> {
    if (this.#filled > 0) await this.#commit();
    return this.#hash.digest();
  }

  async #commit(): Promise<void> {
    const bytes = this.#piece.subarray(0, this.#filled);
    this.#hash.update(bytes);
    try {
      await this.#disk.write(this.#folder, pieceName(this.#pieces), bytes);
    } catch (error) {
      throw await writeError(this.#disk, error, Math.max(this.#expected, this.size) - this.#pieces * PIECE);
    }
    this.#pieces++;
    this.#filled = 0;
  }
}

function pieceName(index: number): string {
  return String(index).padStart(6, "0");
}
