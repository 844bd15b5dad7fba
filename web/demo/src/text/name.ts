/** The file that an address names, or all of the address where it names none. */
export function fileName(url: string): string {
  const last = url.split(/[?#]/)[0]!.split("/").at(-1)!;
  try {
    return decodeURIComponent(last) || url;
  } catch {
    return last;
  }
}

/** An address as a page on this host means it. */
export const absolute = (url: string): string => new URL(url, document.baseURI).href;
