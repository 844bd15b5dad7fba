/** The file that an address names, or all of the address where it names none. */
export function fileName(url: string): string {
  const last = url.split(/[?#]/)[0]!.split("/").at(-1)!;
  try {
    return decodeURIComponent(last) || url;
  } catch {
    return last;
  }
}

/** Whether a text names a model of the Hugging Face hub, as the package reads it: `owner/repo` or `owner/repo:Q8_0`. */
export const isHubName = (text: string): boolean =>
  /^[\w-][\w.-]*\/[\w-][\w.-]*(@[^:]+)?(:[^:]+)?$/.test(text) && (text.includes(":") || !/\.(gguf|safetensors|json)$/i.test(text));

/** An address as a page on this host means it; a name of the hub stays as it is. */
export const absolute = (url: string): string => (isHubName(url) ? url : new URL(url, document.baseURI).href);
