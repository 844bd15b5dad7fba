/** Decides which files are one model: GGUF shards, as llama.cpp's gguf-split names them, and the files of a Hugging Face directory. */

const SHARD = /-(\d{5})-of-(\d{5})\.gguf$/;
const IN_DIRECTORY = /\.(safetensors|json|jinja)$/;

/** The addresses of all shards of the model to which `url` belongs, in order; `url` alone if it is not named as a shard. */
export function shardsAt(url: string): string[] {
  if (!URL.canParse(url)) return [url];
  const { pathname } = new URL(url);
  const [end, number, count] = SHARD.exec(pathname) ?? [];
  if (end === undefined || Number(number) < 1 || Number(number) > Number(count)) return [url];
  const stem = pathname.slice(0, -end.length);
  return Array.from({ length: Number(count) }, (_, index) => {
    const file = `${stem}-${String(index + 1).padStart(5, "0")}-of-${count}.gguf`;
    return Object.assign(new URL(url), { pathname: file }).href;
  });
}

/** The address of the model to which the file at `url` belongs: its first shard, or its directory. */
export function modelAt(url: string): string {
  return URL.canParse(url) && IN_DIRECTORY.test(new URL(url).pathname) ? new URL(".", url).href : shardsAt(url)[0]!;
}

/** The number of weight files of a model, from the name of one of them. */
export function weightsOf(url: string): number {
  return Number(/-of-(\d{5})\.safetensors$/.exec(URL.canParse(url) ? new URL(url).pathname : url)?.[1] ?? shardsAt(url).length);
}

/** The last directory of a URL, or the repository at a hub; undefined if there is none. */
export function folderOf(url: string): string | undefined {
  const path = new URL(url).pathname.replace(/[^/]*$/, "").replace(/\/(resolve|raw)\/[^/]+\/$/, "/");
  return decodeURIComponent(path.split("/").at(-2) ?? "") || undefined;
}

export function isWeights(file: string): boolean {
  return /\.(gguf|safetensors)$/i.test(file);
}
