/** Turns the `model` of `create` into the files that the engine reads. */

import type { Disk } from "../disk/disk.js";
import { HeadstartError, checkSignal, toError } from "../errors.js";
import type { ModelSource, Source } from "../types.js";
import type { ModelFile, Sha256 } from "../wasm/headstart.js";
import type { DownloadOptions } from "./download.js";
import { type Hub, addressOf, hubPlace, isHubPlace } from "./hub.js";
import { folderOf, shardsAt } from "./shards.js";
import { type Judge, Meter, Weights } from "./weights.js";

/** A source with the name of its file. A URL is absolute, and a name on the hub is a place. This crosses to a worker. */
export interface NamedSource {
  name: string;
  /** The folder that a person chose it in. */
  folder?: string;
  source: string | Blob | ReadableStream<Uint8Array>;
}

const INDEX = "model.safetensors.index.json";
const SINGLE = "model.safetensors";
const REQUIRED = ["config.json"];
const OPTIONAL = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];
const MAX_INDEX = 64 << 20;
/** Names of weights that are the same in every directory. */
const ALIKE = /^model(-\d+-of-\d+)?\.safetensors$/;

/**
 * Names each source and makes URLs absolute. A single URL of one shard stands for all shards. Throws if one of several files has no
 * name.
 */
export function nameSources(model: ModelSource): NamedSource[] {
  if (isSource(model)) return withShards(named(model, true));
  const entries = Object.entries(Object(model) as { [filename: string]: Source });
  if (entries.length === 0) throw badInput("model: give a URL, a Blob, a File, a stream, or several of them by file name");
  if (Array.isArray(model)) return entries.length === 1 ? withShards(named(model[0], true)) : entries.map(([, source]) => named(source, false));
  return entries.map(([name, source]) => ({ ...named(source, true), name }));
}

export function isSource(model: ModelSource): model is Source {
  return typeof model === "string" || model instanceof URL || model instanceof Blob || model instanceof ReadableStream;
}

function named(source: Source, alone: boolean): NamedSource {
  if (!isSource(source)) throw badInput(`model: ${Object.prototype.toString.call(source)} is not a URL, Blob, File or stream`);
  if (typeof source === "string" || source instanceof URL) {
    const place = typeof source === "string" && hubPlace(source);
    if (place) return { name: String(source), source: place };
    const url = absolute(source);
    return { name: fileOf(url), source: url };
  }
  const name = "name" in source && typeof source.name === "string" && source.name;
  if (!name && !alone) throw badInput("model: each of several files needs a name; give { [filename]: Blob }");
  const folder = "webkitRelativePath" in source && source.webkitRelativePath.split("/").at(-2);
  return { name: name || "model.gguf", source, ...(folder && { folder }) };
}

function fileOf(url: string): string {
  const { pathname } = new URL(url);
  return decodeURIComponent(pathname.slice(pathname.lastIndexOf("/") + 1));
}

function withShards(file: NamedSource): NamedSource[] {
  return typeof file.source === "string" && !isHubPlace(file.source) ? shardsAt(file.source).map((url) => named(url, true)) : [file];
}

/** Resolves a URL relative to the page. In a worker it would be relative to the script, so pages resolve URLs first. */
export function absolute(url: string | URL): string {
  try {
    // What is neither cannot be trimmed.
    const resolved = new URL(((url as URL).href ?? url).trim(), globalThis.document?.baseURI ?? globalThis.location?.href);
    resolved.hash = "";
    return resolved.href;
  } catch {
    throw badInput(`${url} is no URL`);
  }
}

/** Whether a model gets its name from the directory of this file. */
export function isNamedByFolder(file: string): boolean {
  return ALIKE.test(file);
}

export interface OpenModel {
  /** The name of the directory of a model with several files, if it is known. */
  name: string | undefined;
  files: ModelFile[];
  /** Removes files that were kept only for this model's lifetime. After a `bad_model` it also removes the refused files. */
  close(error?: HeadstartError): Promise<void>;
}

export interface OpenOptions extends DownloadOptions {
  /** The disk for downloads; undefined keeps none. */
  disk: Disk | undefined;
  hash: () => Sha256;
  hub: Hub;
  judge: Judge;
  onProgress: (loaded: number, total: number) => void;
}

/** Opens all sources. Downloads and spools them as needed. */
export async function openModel(sources: readonly NamedSource[], options: OpenOptions): Promise<OpenModel> {
  const weights = await Weights.open(options.disk, options.hash, options);
  const meter = new Meter(options.onProgress);
  const close = async (error?: HeadstartError) => {
    if (error?.code === "bad_model") await weights.refuse(error);
    await weights.close();
  };
  try {
    const files: ModelFile[] = [];
    const urls: { url: string; name: string }[] = [];
    const blobs: ModelFile[] = [];
    let called: string | undefined;
    for (const { name, source, folder } of sources) {
      checkSignal(options.signal);
      if (source instanceof Blob) blobs.push(blobFile(name, source));
      if (typeof source !== "string") {
        if (isNamedByFolder(name)) called ??= folder;
        continue;
      }
      const isNamed = isHubPlace(source);
      const address = isNamed ? await addressOf(source, options.hub, options.disk, options) : source;
      if (address.endsWith("/")) {
        const found = await directory(address, weights, meter);
        files.push(...found.files);
        urls.push(...found.weights);
      } else urls.push(...(isNamed ? shardsAt(address) : [address]).map((url) => ({ url, name: isNamed ? fileOf(url) : name })));
      if (address.endsWith("/") || isNamedByFolder(name)) called ??= folderOf(address);
    }
    // The content of a stream is unknown until it has arrived.
    const isWhole = sources.every(({ source }) => !(source instanceof ReadableStream));
    const judge = isWhole ? (downloads: ModelFile[]) => options.judge([...files, ...downloads, ...blobs]) : undefined;
    files.push(...(await weights.download(urls, meter, judge)), ...blobs);
    for (const { name, source } of sources) {
      if (source instanceof ReadableStream) files.push(await weights.spool(source, name, meter));
    }
    return { name: called, files, close };
  } catch (error) {
    await close(toError(error));
    throw toError(error);
  }
}

/** The files of a Hugging Face directory: the required ones, the optional ones that exist, and the addresses of its weights. */
async function directory(url: string, weights: Weights, meter: Meter): Promise<{ files: ModelFile[]; weights: { url: string; name: string }[] }> {
  const at = (name: string) => ({ url: new URL(encodeURIComponent(name), url).href, name });
  const files = await weights.download(REQUIRED.map(at), meter);
  for (const name of [...OPTIONAL, INDEX]) {
    const file = await weights.optional(at(name).url, name, meter);
    if (file) files.push(file);
  }
  const index = files.find(({ name }) => name === INDEX);
  return { files, weights: (index ? await shardsOf(index) : [SINGLE]).map(at) };
}

async function shardsOf(index: ModelFile): Promise<string[]> {
  const bad = (problem: string) => new HeadstartError("bad_model", `${index.name}: ${problem}`, { file: index.name });
  if (index.size > MAX_INDEX) throw bad(`${index.size} bytes, at most ${MAX_INDEX} are read`);
  let map: unknown;
  try {
    map = (JSON.parse(new TextDecoder().decode(await index.read(0, index.size))) as { weight_map?: unknown }).weight_map;
  } catch {
    throw bad("is no JSON");
  }
  const names = [...new Set(Object.values(Object(map) as object))];
  const plain = (name: unknown): name is string => typeof name === "string" && /^[\w.-]+\.safetensors$/.test(name);
  if (names.length === 0 || !names.every(plain)) throw bad("weight_map must give each tensor a .safetensors file beside it");
  return names.sort();
}

function blobFile(name: string, blob: Blob): ModelFile {
  return {
    name,
    size: blob.size,
    async read(offset, length) {
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (error) {
        throw new HeadstartError("storage", `${name} cannot be read any more; choose it again`, { file: name }, error);
      }
    },
  };
}

function badInput(message: string): HeadstartError {
  return new HeadstartError("bad_input", message);
}
