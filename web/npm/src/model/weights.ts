/**
 * The copies of models that this origin keeps: one folder for each file, named by the hash of its URL.
 *
 * The second visit asks the server only whether the file is unchanged, and continues without a response. If several tabs need a file,
 * one downloads it while the others wait and then read it. If that tab closes, the next one resumes.
 */

import { type Disk, MemoryDisk, openDisk, quotaExceeded } from "../disk/disk.js";
import { locked } from "../disk/lock.js";
import { HeadstartError, checkSignal } from "../errors.js";
import type { ModelFile, Sha256 } from "../wasm/headstart.js";
import { Download, type DownloadOptions, type FileState, head, same } from "./download.js";
import { type FileRecord, PIECE, PieceWriter, openPieces, readRecord, writeRecord } from "./pieces.js";
import { hubPlace, isAt } from "./hub.js";
import { folderOf, isWeights, modelAt, shardsAt, weightsOf } from "./shards.js";

const FOLDER = "weights";
const STREAM = "stream-";
const BESIDE_WEIGHTS = /\.(json|jinja)$/i;
/** Statuses for a missing file: some stores send 403, some applications 200 with an HTML page. */
const ABSENT = [200, 403, 404, 410];

export interface KeptModel {
  /** The URL of the file, of the first shard, or of the Hugging Face directory. */
  source: string;
  /** The name of the file, or of its directory or repository. */
  name: string;
  /** Size in bytes, if it is known. */
  size?: number;
  /** Bytes that are kept. */
  loaded: number;
  /** Whether the download is complete. */
  complete: boolean;
}

/** The models that this origin keeps. The shards of a model, or the files of a directory, count as one. */
export async function listWeights(): Promise<KeptModel[]> {
  return listKept(await openDisk());
}

/** Removes the kept files of a model, or of all models. `model`: a name on the hub, or the beginning of a URL. */
export async function clearWeights(model: string | URL = ""): Promise<void> {
  await clearKept(await openDisk(), model);
}

export async function listKept(disk: Disk | undefined): Promise<KeptModel[]> {
  const models = new Map<string, (FileRecord & { loaded: number })[]>();
  for (const id of (await disk?.list(FOLDER, "folders")) ?? []) {
    const folder = `${FOLDER}/${id}`;
    const record = await readRecord(disk!, folder);
    if (!record || record.absent) continue;
    const model = modelAt(record.source);
    models.set(model, [...(models.get(model) ?? []), { ...record, loaded: await loadedOf(disk!, folder, record) }]);
  }
  return [...models].map(([source, files]) => {
    const weights = files.filter((file) => isWeights(file.name) || file.source === source);
    const isWhole = weights.length > 0 && weights.length >= weightsOf(weights[0]!.source);
    const size = files.reduce((sum, file) => sum + (file.size ?? NaN), 0);
    const { name } = files.find((file) => file.source === source) ?? { name: (source.endsWith("/") && folderOf(source)) || files[0]!.name };
    const loaded = files.reduce((sum, file) => sum + file.loaded, 0);
    return { source, name, ...(isWhole && !Number.isNaN(size) && { size }), loaded, complete: isWhole && files.every(({ sha256 }) => sha256 !== undefined) };
  });
}

/** The kept bytes of a file: all, or whole pieces from its beginning. */
async function loadedOf(disk: Disk, folder: string, { size, sha256 }: FileRecord): Promise<number> {
  return sha256 !== undefined ? size! : Math.min(size ?? Infinity, PIECE * ((await disk.list(folder, "files")).length - 1));
}

/** As `clearWeights`. If the URL of one file matches, the other files of its model are removed too. */
export async function clearKept(disk: Disk | undefined, prefix: string | URL): Promise<void> {
  const place = hubPlace(String(prefix));
  const isMeant = ({ source }: FileRecord) =>
    place ? isAt(place, source) : [modelAt(source), ...shardsAt(source)].some((url) => url.startsWith(String(prefix)));
  for (const id of (await disk?.list(FOLDER, "folders")) ?? []) {
    const record = await readRecord(disk!, `${FOLDER}/${id}`);
    if (!record || isMeant(record)) await disk!.removeFolder(`${FOLDER}/${id}`);
  }
}

/** Counts the downloaded bytes of all files. */
export class Meter {
  #loaded = 0;
  #total = 0;
  readonly #report: (loaded: number, total: number) => void;

  constructor(report: (loaded: number, total: number) => void) {
    this.#report = report;
  }

  expect(bytes: number): void {
    this.#total += bytes;
  }

  readonly advance = (bytes: number): void => {
    this.#loaded += bytes;
    this.#report(this.#loaded, Math.max(this.#loaded, this.#total));
  };
}

/** A requested file, and what is known about it before the download. */
interface Plan {
  url: string;
  name: string;
  folder: string;
  record: FileRecord | undefined;
  /** The server's current state of it. */
  now: FileState | undefined;
  /** A download from its beginning, if its header has been checked. */
  begun?: Download;
  /** Bytes that the meter has counted for it. */
  counted: number;
}

/** Reads the headers of a model's files. Rejects with `bad_model` if the model cannot run. */
export type Judge = (files: ModelFile[]) => Promise<void>;

export class Weights {
  readonly #disk: Disk;
  readonly #hash: () => Sha256;
  readonly #options: DownloadOptions;
  readonly #release: (() => void)[] = [];
  /** The requested files, and whether this load has downloaded them. */
  readonly #asked = new Map<string, { name: string; isNew: boolean }>();

  private constructor(disk: Disk, hash: () => Sha256, options: DownloadOptions) {
    this.#disk = disk;
    this.#hash = hash;
    this.#options = options;
  }

  /** Without a disk, downloads stay in memory while this object lives. */
  static async open(disk: Disk | undefined, hash: () => Sha256, options: DownloadOptions): Promise<Weights> {
    const weights = new Weights(disk ?? new MemoryDisk(), hash, options);
    await weights.#removeStale();
    return weights;
  }

  /**
   * The files at these URLs, by name. Missing ones are downloaded. `judge` checks new weights on their server before anything of them is
   * kept.
   */
  async download(files: readonly { url: string; name: string }[], meter: Meter, judge?: Judge): Promise<ModelFile[]> {
    const plans = await Promise.all(files.map((file) => this.#plan(file.url, file.name)));
    for (const { now, record } of plans) meter.expect(now?.size ?? record?.size ?? 0);
    const missing = await Promise.all(plans.map((plan) => this.#missing(plan)));
    await this.#checkRoom(missing.reduce((sum, bytes) => sum + bytes, 0));
    const work = async () => {
      try {
        if (judge) await this.#judge(plans, meter, judge);
        const done: ModelFile[] = [];
        for (const plan of plans) done.push(await this.#locked(plan.folder, () => this.#file(plan, meter)));
        return done;
      } finally {
        for (const { begun } of plans) begun?.close();
      }
    };
    return plans[0] && judge ? this.#locked(`${plans[0].folder}/model`, work) : work();
  }

  /** Checks the headers of files that are not kept. Partly downloaded weights were checked before. */
  async #judge(plans: readonly Plan[], meter: Meter, judge: Judge): Promise<void> {
    const records = await Promise.all(plans.map(({ folder }) => readRecord(this.#disk, folder)));
    const isKnown = ({ now }: Plan, at: number) => records[at] && same(records[at], now ?? {});
    if (plans.every((plan, at) => BESIDE_WEIGHTS.test(plan.name) || isKnown(plan, at))) return;
    const kept = await Promise.all(plans.map((plan) => this.#kept(plan)));
    const files: ModelFile[] = [];
    for (const [at, plan] of plans.entries()) {
      // The size in the response counts. For the first file it costs no extra request.
      const size = kept[at]?.size ?? ((at > 0 && plan.now?.size) || (await this.#begin(plan, meter)).state.size);
      // A file of unknown size cannot be checked before it has arrived.
      if (size === undefined) return;
      const read = async (offset: number, length: number) => {
        // The first connection stays open. Connections to all files would be too many.
        for (const other of plans.slice(1)) if (other !== plan) await other.begun?.rest();
        return (await this.#begin(plan, meter)).peek(offset, length);
      };
      files.push(kept[at] ?? { name: plan.name, size, read });
    }
    await judge(files);
  }

  async #begin(plan: Plan, meter: Meter): Promise<Download> {
    return (plan.begun ??= await Download.open(plan.url, 0, {}, this.#counting(plan, meter)));
  }

  #counting(plan: Plan, meter: Meter): DownloadOptions {
    const advance = (bytes: number) => {
      plan.counted += bytes;
      meter.advance(bytes);
    };
    return { ...this.#options, advance };
  }

  /** Removes a model that cannot run: the files that this load downloaded, and the faulty file of an older copy. */
  async refuse({ file }: HeadstartError): Promise<void> {
    for (const [folder, { name, isNew }] of this.#asked) {
      const isAtFault = name === file || !(BESIDE_WEIGHTS.test(name) || name.endsWith(".safetensors"));
      if (isNew || isAtFault) await this.#locked(folder, () => this.#disk.removeFolder(folder));
    }
  }

  /** An optional file. Its absence is remembered, so that a kept model loads without its server. */
  async optional(url: string, name: string, meter: Meter): Promise<ModelFile | undefined> {
    const { folder, record, now } = await this.#plan(url, name);
    if (record?.absent && !now) return undefined;
    try {
      return (await this.download([{ url, name }], meter))[0];
    } catch (error) {
      if (!(error instanceof HeadstartError) || !ABSENT.includes(error.status!)) throw error;
      await this.#locked(folder, () => writeRecord(this.#disk, folder, { version: 1, source: url, name, absent: true }));
      return undefined;
    }
  }

  /** Writes a stream to the disk until `close`. */
  async spool(stream: ReadableStream<Uint8Array>, name: string, meter: Meter): Promise<ModelFile> {
    const id = `${STREAM}${crypto.randomUUID()}`;
    const folder = `${FOLDER}/${id}`;
    await this.#hold(folder);
    const writer = new PieceWriter(this.#disk, folder, this.#hash());
    const reader = stream.getReader();
    try {
      for (let chunk; !(chunk = await reader.read()).done; meter.advance(chunk.value.length)) {
        checkSignal(this.#options.signal);
        await writer.write(chunk.value);
      }
    } catch (error) {
      void reader.cancel().catch(() => undefined);
      throw error;
    }
    return this.#finish(folder, { version: 1, source: "", name, size: writer.size, sha256: await writer.end() });
  }

  /** Removes spooled streams. */
  async close(): Promise<void> {
    for (const release of this.#release.splice(0)) release();
    await this.#removeStale();
  }

  async #plan(url: string, name: string): Promise<Plan> {
    const folder = `${FOLDER}/${await hashOf(url)}`;
    const [record, now] = await Promise.all([readRecord(this.#disk, folder), head(url, this.#options)]);
    this.#asked.set(folder, { name, isNew: false });
    return { url, name, folder, record, now, counted: 0 };
  }

  /** The kept file, if it is complete and unchanged. */
  async #kept({ folder, name, now }: Plan): Promise<ModelFile | undefined> {
    const record = await readRecord(this.#disk, folder);
    return record && same(record, now ?? {}) ? openPieces(this.#disk, folder, { ...record, name }) : undefined;
  }

  async #file(plan: Plan, meter: Meter): Promise<ModelFile> {
    const { folder, name } = plan;
    // Another tab may have written it while this one waited.
    const file = await this.#kept(plan);
    if (file) {
      meter.advance(file.size - plan.counted);
      return file;
    }
    this.#asked.set(folder, { name, isNew: true });
    const record = await readRecord(this.#disk, folder);
    if (record && same(record, plan.now ?? {})) {
      if (record.sha256 === undefined) {
        try {
          return await this.#fetch(plan, record, meter);
        } catch (error) {
          if (!(error instanceof HeadstartError) || error.code !== "changed") throw error;
        }
      }
    }
    await this.#disk.removeFolder(folder);
    return this.#fetch(plan, undefined, meter);
  }

  /** Downloads the missing part. `begun`: the record of an unfinished download. */
  async #fetch(plan: Plan, begun: FileRecord | undefined, meter: Meter): Promise<ModelFile> {
    const { url, name, folder, now } = plan;
    if (begun) this.#letGo(plan, meter);
    const options = this.#counting(plan, meter);
    const expected = now?.size ?? begun?.size ?? 0;
    const writer = new PieceWriter(this.#disk, folder, this.#hash(), expected);
    let record = begun;
    try {
      if (begun) await writer.resume((bytes) => options.advance!(bytes, undefined));
      if (!record || writer.size !== record.size) {
        const known: FileRecord = { version: 1, source: url, name, ...begun };
        const download = (writer.size === 0 && plan.begun) || (await Download.open(url, writer.size, known, options));
        record = await this.#receive(download, writer, known, folder);
      }
      return await this.#finish(folder, { ...record, size: writer.size, sha256: await writer.end() });
    } catch (error) {
      this.#letGo(plan, meter);
      throw error;
    }
  }

  /** Discards the bytes that have arrived, and their count. */
  #letGo(plan: Plan, meter: Meter): void {
    plan.begun?.close();
    delete plan.begun;
    meter.advance(-plan.counted);
    plan.counted = 0;
  }

  /** Writes a download to its end. Returns the record with the server's state of the file. */
  async #receive(download: Download, writer: PieceWriter, known: FileRecord, folder: string): Promise<FileRecord> {
    try {
      const record = { ...known, ...download.state };
      await this.#checkRoom((record.size ?? 0) - writer.size);
      await writeRecord(this.#disk, folder, record);
      for await (const chunk of download.chunks()) await writer.write(chunk);
      return record;
    } finally {
      download.close();
    }
  }

  /** Writes the record last: its digest marks the file as complete. */
  async #finish(folder: string, record: FileRecord): Promise<ModelFile> {
    await writeRecord(this.#disk, folder, record);
    const file = await openPieces(this.#disk, folder, record);
    if (!file) throw new HeadstartError("storage", `${record.name}: what was written to the disk is not there`, { file: record.name });
    return file;
  }

  /** Bytes that must still be written for a file, as far as its size is known. */
  async #missing({ folder, record, now }: Plan): Promise<number> {
    const size = now?.size ?? record?.size ?? 0;
    return record && same(record, now ?? {}) ? size - (await loadedOf(this.#disk, folder, { ...record, size })) : size;
  }

  async #checkRoom(asked: number): Promise<void> {
    const room = await this.#disk.available();
    if (room !== undefined && asked > room) throw quotaExceeded(asked, room);
  }

  #locked<T>(folder: string, work: () => Promise<T>): Promise<T> {
    return this.#disk.name === "memory" ? work() : locked(folder, this.#options.signal, work);
  }

  /** Holds the lock of a spooled stream until `close`, so that other tabs do not remove it. */
  #hold(folder: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const held = locked(folder, undefined, () => {
        resolve();
        return new Promise<void>((release) => this.#release.push(release));
      });
      held.catch(reject);
    });
  }

  /** Removes spooled streams of pages that were closed. */
  async #removeStale(): Promise<void> {
    if (this.#disk.name === "memory" || !globalThis.navigator?.locks) return;
    for (const id of await this.#disk.list(FOLDER, "folders")) {
      if (!id.startsWith(STREAM)) continue;
      const folder = `${FOLDER}/${id}`;
      await navigator.locks.request(`headstart/${folder}`, { ifAvailable: true }, async (lock) => {
        if (lock) await this.#disk.removeFolder(folder);
      });
    }
  }
}

async function hashOf(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
