/** Which files are one model: the shards of GGUF, as llama.cpp's gguf-split names them, and what lies in a Hugging Face directory. */

const SHARD = /-(\d{5})-of-(\d{5})\.gguf$/;
const IN_DIRECTORY = /\.(safetensors|json|jinja)$/;

/** The addresses of all files of the model that the file at `url` belongs to, in order: its own, unless it is called as a shard is. */
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

/** The address of the model that the file at `url` is of: its first shard, or its directory. */
export function modelAt(url: string): string {
  return URL.canParse(url) && IN_DIRECTORY.test(new URL(url).pathname) ? new URL(".", url).href : shardsAt(url)[0]!;
}

/** How many files of weights the model has that one of them is of, by its name. */
export function weightsOf(url: string): number {
  return Number(/-of-(\d{5})\.safetensors$/.exec(URL.canParse(url) ? new URL(url).pathname : url)?.[1] ?? shardsAt(url).length);
}

/** The last directory of a URL, or at a hub the repository; undefined where there is none. */
export function folderOf(url: string): string | undefined {
  const path = new URL(url).pathname.replace(/[^/]*$/, "").replace(/\/(resolve|raw)\/[^/]+\/$/, "/");
  return decodeURIComponent(path.split("/").at(-2) ?? "") || undefined;
}

export function isWeights(file: string): boolean {
  return /\.(gguf|safetensors)$/i.test(file);
}
