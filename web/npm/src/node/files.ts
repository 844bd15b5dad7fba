/** Models, packs and the engine in the file system. Models are read in place, a range at a time. */

import { existsSync } from "node:fs";
import { type FileHandle, open, readFile, readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { HeadstartError } from "../errors.js";
import { type NamedSource, type OpenModel, type OpenOptions, isNamedByFolder, isSource, openModel } from "../model/source.js";
import { isWeights } from "../model/shards.js";
import { hubPlace } from "../model/hub.js";
import type { CreateOptions, ModelSource, PackSource, SignedPack, Source } from "../types.js";
import type { ModelFile } from "../wasm/headstart.js";
import type { Digests } from "./digests.js";

type Packs = NonNullable<CreateOptions["prefixPacks"]>;

const SCHEME = /^[a-z][a-z0-9+.-]+:/i;
/** The files of a directory that belong to a model. */
const OF_A_MODEL = /\.(safetensors|gguf)$|^(config|tokenizer|tokenizer_config|special_tokens_map|generation_config|model\.safetensors\.index)\.json$|^chat_template\.jinja$/;

/** A path as a `file:` URL; anything else as it is. A colon after the first letter marks a Windows path. */
export function pathToUrl<T>(place: T): T | URL {
  return typeof place === "string" && !SCHEME.test(place) ? pathToFileURL(resolve(place)) : place;
}

/** As `pathToUrl`, for all files of a model. A name on the hub stays as it is if there is no such path. */
export function pathsToUrls(model: ModelSource): ModelSource {
  const one = (source: Source) => (typeof source === "string" && !existsSync(source) && hubPlace(source) ? source : pathToUrl(source));
  if (isSource(model)) return one(model);
  if (Array.isArray(model)) return model.map(one);
  return Object.fromEntries(Object.entries(Object(model) as Record<string, Source>).map(([name, source]) => [name, one(source)]));
}

/** Whether a URL is a file's. */
export function isFile(place: unknown): place is string | URL {
  return (typeof place === "string" || place instanceof URL) && /^file:/i.test(String(place));
}

/** The bytes of the file that an option names. */
export async function readNamed(field: string, file: string | URL): Promise<Uint8Array<ArrayBuffer>> {
  const path = fileURLToPath(file);
  return readFile(path).catch((error: unknown) => {
    throw unreadable(path, error, field);
  });
}

/** Prefix packs, with the bytes of those that are files. */
export async function readPacks(packs: Packs): Promise<{ prefixPacks: Packs }> {
  if (!Array.isArray(packs)) return { prefixPacks: packs };
  const one = async (pack: PackSource | SignedPack, index: number) => {
    const signed = typeof (pack as SignedPack)?.key === "string" && (pack as SignedPack);
    const place = pathToUrl(signed ? signed.url : pack);
    if (!isFile(place)) return pack;
    const url = new Blob([await readNamed(`prefixPacks[${index}]`, place)]);
    return signed ? { ...signed, url } : url;
  };
  return { prefixPacks: await Promise.all(packs.map(one)) };
}

/** As `openModel`, also for `file:` URLs. Weights get their digests from `digests`, if it is given. */
export async function openFiles(sources: readonly NamedSource[], options: OpenOptions, digests?: Digests): Promise<OpenModel> {
  const handles: FileHandle[] = [];
  const files: ModelFile[] = [];
  let called: string | undefined;
  const elsewhere: NamedSource[] = [];
  const closeFiles = async () => {
    for (const handle of handles.splice(0)) await handle.close();
  };
  try {
    for (const { name, source } of sources) {
      if (!isFile(source)) {
        elsewhere.push({ name, source });
        continue;
      }
      const path = fileURLToPath(source);
      for (const [file, at] of await filesAt(path, name)) {
        const opened = await openFile(at, file, handles);
        if (digests && isWeights(file)) opened.sha256 = await digests.of(at, opened, handles.at(-1)!, options.signal);
        if (at !== path || isNamedByFolder(file)) called ??= basename(dirname(at));
        files.push(opened);
      }
    }
    if (elsewhere.length === 0) return { name: called, files, close: closeFiles };
    const model = await openModel(elsewhere, { ...options, judge: (others) => options.judge([...files, ...others]) });
    return {
      name: called ?? model.name,
      files: [...files, ...model.files],
      close: (error) => Promise.all([closeFiles(), model.close(error)]).then(() => undefined),
    };
  } catch (error) {
    await closeFiles();
    throw error;
  }
}

/** The file at a path, or the files in a directory, by name. */
async function filesAt(path: string, name: string): Promise<[string, string][]> {
  const found = await stat(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (!found.isDirectory()) return [[name || basename(path), path]];
  const names = (await readdir(path)).filter((name) => OF_A_MODEL.test(name)).sort();
  if (names.length > 0) return names.map((name) => [name, join(path, name)]);
  throw new HeadstartError("bad_model", `${path} contains no model: give a .gguf file, or a directory with config.json and *.safetensors`, { file: path });
}

async function openFile(path: string, name: string, handles: FileHandle[]): Promise<ModelFile> {
  try {
    const handle = await open(path, "r");
    handles.push(handle);
    const { size } = await handle.stat();
    return { name, size, read: (offset, length) => read(handle, path, offset, length) };
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function read(handle: FileHandle, path: string, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done).catch((error: unknown) => {
      throw unreadable(path, error);
    });
    if (bytesRead === 0) throw new HeadstartError("storage", `${path} was cut short at byte ${offset + done}; load the model again`, { file: path });
    done += bytesRead;
  }
  return bytes;
}

function unreadable(path: string, error: unknown, field = "model"): HeadstartError {
  const absent = (error as { code?: string }).code === "ENOENT";
  const problem = absent ? "is missing: check the path" : `cannot be read: ${String(error)}`;
  return new HeadstartError("bad_input", `${field}: ${path} ${problem}`, { field, file: path }, error);
}
