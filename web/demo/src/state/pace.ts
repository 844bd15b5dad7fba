// The speed of a download over the last seconds, so that it follows the connection without jumping. Pure.

/** What lies on the disk already comes in the first moment, and says nothing of the line. */
const SETTLE_MS = 1000;
const WINDOW_MS = 5000;
/** Less time than this is too short to tell. */
const LEAST_MS = 500;

export class Pace {
  #began: number | null = null;
  #seen: { at: number; loaded: number }[] = [];

  /** Bytes a second by now; null where that cannot be told yet. `at`: milliseconds of any clock. */
  see(loaded: number, at: number): number | null {
    this.#began ??= at;
    if (at - this.#began < SETTLE_MS) this.#seen = [];
    this.#seen.push({ at, loaded });
    while (this.#seen.length > 2 && at - this.#seen[1]!.at > WINDOW_MS) this.#seen.shift();
    const [first] = this.#seen;
    const span = at - first!.at;
    return span < LEAST_MS ? null : Math.max(0, ((loaded - first!.loaded) * 1000) / span);
  }
}

/** What is left to wait for `bytes`, in words; null where nothing comes. */
export function timeLeft(bytes: number, pace: number): string | null {
  if (!(pace > 0)) return null;
  const seconds = bytes / pace;
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `${Math.round(seconds / 5) * 5} s left`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min left`;
  return `${Math.round(seconds / 3600)} h left`;
}
