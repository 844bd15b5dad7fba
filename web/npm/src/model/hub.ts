/** Names on the Hugging Face hub, those of listed models among them, and their addresses. */

import { type Disk, readJson, writeJson } from "../disk/disk.js";
import { HeadstartError, toError } from "../errors.js";
import { LISTED } from "./listed.js";
import type * as Wasm from "../wasm/headstart.js";
import { type DownloadOptions, downloadAll } from "./download.js";

export const HUB = "https://huggingface.co";

/** Prefix of an address that the hub has yet to resolve. */
const NAMED = "hub:";
/** `owner/repo`, optionally with `@revision`, `:FILE.gguf` or `:Q8_0`. The engine checks such a name in detail. */
const NAME = /^[\w-][\w.-]*\/[\w-][\w.-]*(@[^:]+)?(:[^:]+)?$/;
const FOLDER = "hub";

/** The hub, and the functions that parse names. */
export interface Hub {
  /** Its address, without a slash at the end. */
  base: string;
  names: Pick<typeof Wasm, "hubName" | "hubFile">;
}

/** `text` as a place on the hub, if it is the name of a listed model or of a repository. */
export function hubPlace(text: string): string | undefined {
  const listed = LISTED.find(({ name }) => name === text);
  if (listed) return `${NAMED}${listed.repo}:${listed.file}`;
  const isFile = !text.includes(":") && /\.(gguf|safetensors|json)$/i.test(text);
  return NAME.test(text) && !isFile ? NAMED + text : undefined;
}

export function isHubPlace(source: string): boolean {
  return source.startsWith(NAMED);
}

/** Whether the file at `url` belongs to the model of a place, at any hub. */
export function isAt(place: string, url: string): boolean {
  const [, repo, revision, file = ""] = /^hub:([^@:]*)(?:@([^:]*))?(?::([^@]*))?/.exec(place)!;
  const [, path] = url.split(`/${repo}/resolve/${revision === undefined ? "" : `${encodeURIComponent(revision)}/`}`);
  return path !== undefined && path.toLowerCase().includes(file.toLowerCase());
}

/** The address of a place: a file or a directory. The hub's last response is remembered for times without a connection. */
export async function addressOf(place: string, { base, names }: Hub, disk: Disk | undefined, options: DownloadOptions): Promise<string> {
  const name = place.slice(NAMED.length);
  const { repo, revision, file } = read(() => names.hubName(name));
  const at = (path: string) => `${base}/${repo}/resolve/${encodeURIComponent(revision)}/${path.split("/").map(encodeURIComponent).join("/")}`;
  if (file?.endsWith(".gguf")) return at(file);
  const record = `${encodeURIComponent(`${base}/${name}`)}.json`;
  let files: string[];
  try {
    files = await listing(`${base}/api/models/${repo}/revision/${encodeURIComponent(revision)}`, repo, options);
  } catch (error) {
    const known = toError(error).code === "download" && disk && (await readJson<{ address: string }>(disk, FOLDER, record));
    if (known) return known.address;
    throw error;
  }
  const address = at(read(() => names.hubFile(name, files)) ?? "");
  // If it cannot be written, the hub is asked again next time.
  if (disk) await writeJson(disk, FOLDER, record, { address }).catch(() => undefined);
  return address;
}

async function listing(url: string, repo: string, options: DownloadOptions): Promise<string[]> {
  try {
    const { siblings } = JSON.parse(await (await downloadAll(url, options)).text()) as { siblings: { rfilename: string }[] };
    return siblings.map(({ rfilename }) => rfilename);
  } catch (error) {
    if (!(error instanceof HeadstartError)) {
      throw new HeadstartError("http_status", `${url}: this is not a hub's response; check hub`, { url, status: 200 }, error);
    }
    if (![401, 403, 404].includes(error.status!)) throw error;
    const message =
      `the hub has no public model ${repo} (${error.status}): check the name, begin a path or an address with ./, ` +
      'and for a private or gated one give headers: { authorization: "Bearer …" }';
    throw new HeadstartError("http_status", message, { url, status: error.status! }, error);
  }
}

function read<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new HeadstartError("bad_input", toError(error).message, { field: "model" }, error);
  }
}
