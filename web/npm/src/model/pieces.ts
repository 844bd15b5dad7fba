/**
 * A file that is kept in pieces on a disk. It is written in order, can be read anywhere, and is complete when its record says so.
 *
 * Each piece is a file, so a page that is closed while writing loses one piece at most, and only one piece is in memory. The record
 * describes the file and, at the end, its SHA-256.
 */

import type { Disk } from "../disk/disk.js";
import { readJson, writeError, writeJson } from "../disk/disk.js";
import { HeadstartError } from "../errors.js";
import type { ModelFile, Sha256 } from "../wasm/headstart.js";
import type { FileState } from "./download.js";

export const PIECE = 8 << 20;
const RECORD = "record.json";

/** The record of a kept file. The file is complete if there is a `sha256`. */
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

/** Opens a file that is complete by its record and the sizes of its pieces; undefined otherwise. */
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
    throw new HeadstartError("storage", `${name}: its copy on disk is missing; load the model again`, { file: name }, error);
  }
}

/** Writes a file's bytes, from the beginning or from where an earlier download stopped. */
export class PieceWriter {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #hash: Sha256;
  /** Expected size, for the error of a full disk. */
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

  /** Bytes received so far. */
  get size(): number {
    return this.#pieces * PIECE + this.#filled;
  }

  /** Takes over the full pieces on the disk, and reads them for the hash. */
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

  /** Commits the last piece. Returns the SHA-256 of the file. */
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
