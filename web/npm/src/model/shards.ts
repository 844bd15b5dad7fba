/** GGUF models in several files, as llama.cpp's gguf-split names them: `NAME-00001-of-00003.gguf` and so on. */

const SHARD = /-(\d{5})-of-(\d{5})\.gguf$/;

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
