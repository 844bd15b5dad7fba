/** The file name of an address, or the whole address if it has none. */
export function fileName(url: string): string {
  const last = url.split(/[?#]/)[0]!.split("/").at(-1)!;
  try {
    return decodeURIComponent(last) || url;
  } catch {
    return last;
  }
}

/** Whether a text is a name on the Hugging Face hub by the package's rules: `owner/repo` or `owner/repo:Q8_0`. */
export const isHubName = (text: string): boolean =>
  /^[\w-][\w.-]*\/[\w-][\w.-]*(@[^:]+)?(:[^:]+)?$/.test(text) && (text.includes(":") || !/\.(gguf|safetensors|json)$/i.test(text));

/** An address resolved against this page. A name on the hub stays as it is. */
export const absolute = (url: string): string => (isHubName(url) ? url : new URL(url, document.baseURI).href);
