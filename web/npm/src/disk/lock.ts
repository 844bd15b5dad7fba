/** One at a time, over all tabs and workers of the origin; in Node at most over one process. */

/**
 * Runs `work` while no other tab or worker does under the same name. Where there are no locks nothing is excluded: files
 * are whole in any case, and work would only be done twice.
 */
export async function locked<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (!globalThis.navigator?.locks) return work();
  return navigator.locks.request(`headstart/${name}`, signal ? { signal } : {}, work) as Promise<T>;
}
