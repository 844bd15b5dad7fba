/** Mutual exclusion over all tabs and workers of the origin; in Node within one process at most. */

/**
 * Runs `work` while no other tab or worker runs work under the same name. Without the Web Locks API nothing is excluded: files stay
 * whole, but work may be done twice.
 */
export async function locked<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (!globalThis.navigator?.locks) return work();
  return navigator.locks.request(`headstart/${name}`, signal ? { signal } : {}, work) as Promise<T>;
}
