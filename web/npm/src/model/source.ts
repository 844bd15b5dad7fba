/** What `create` takes as a model, as the files that the engine reads. */

import type { Disk } from "../disk/disk.js";
import { HeadstartError, checkSignal, toError } from "../errors.js";
import type { ModelSource, Source } from "../types.js";
import type { ModelFile, Sha256 } from "../wasm/headstart.js";
import type { DownloadOptions } from "./download.js";
import { type Hub, addressOf, hubPlace, isHubPlace } from "./hub.js";
import { folderOf, shardsAt } from "./shards.js";
import { type Judge, Meter, Weights } from "./weights.js";

/** A source with the name that its file goes by; a URL is absolute, and a name of the hub a place of it. This is what crosses to a worker. */
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
/** What weights are called in every directory alike. */
const ALIKE = /^model(-\d+-of-\d+)?\.safetensors$/;

/**
 * Names each source and makes URLs absolute. A URL alone that names one shard of a GGUF model stands for all of them. Throws
 * where a file of several has no name.
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
  if (!isSource(source)) throw badInput(`model: ${Object.prototype.toString.call(source)} is no URL, Blob, File or stream`);
  if (typeof source === "string" || source instanceof URL) {
    const place = typeof source === "string" && hubPlace(source);
    if (place) return { name: String(source), source: place };
    const url = absolute(source);
    return { name: fileOf(url), source: url };
  }
  const name = "name" in source && typeof source.name === "string" && source.name;
  if (!name && !alone) throw badInput("model: of several files each needs a name; give { [filename]: Blob }");
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

/** Relative to the page. In a worker to its script, so pages resolve before they hand on. */
export function absolute(url: string | URL): string {
  try {
    const resolved = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    resolved.hash = "";
    return resolved.href;
  } catch {
    throw badInput(`${url} is no URL`);
  }
}

/** Whether a model is called by the directory that this file of it is in. */
export function isNamedByFolder(file: string): boolean {
  return ALIKE.test(file);
}

export interface OpenModel {
  /** What the directory is called that a model of several files is in, where that is known. */
  name: string | undefined;
  files: ModelFile[];
  /** Removes what was only kept for this model's life. After a `bad_model`, what was kept of one that is none too. */
  close(error?: HeadstartError): Promise<void>;
}

export interface OpenOptions extends DownloadOptions {
  /** Where downloads are kept; undefined keeps none. */
  disk: Disk | undefined;
  hash: () => Sha256;
  hub: Hub;
  judge: Judge;
  onProgress: (loaded: number, total: number) => void;
}

/** Opens all sources, downloading and spooling as needed. */
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
    // What a stream is cannot be known before it is there.
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

/** The files of a Hugging Face directory: what a model needs and, of the rest, what is there; and where its weights are. */
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
