// Parts of the page that are loaded when they are first needed.

import { type ReadonlySignal, signal } from "@preact/signals";

export interface Lazy<T> {
  /** Null until it is there; whoever reads this renders again then. */
  readonly value: ReadonlySignal<T | null>;
  /** Fetches it, once. A failure leaves the page as it is without, and the next call tries again. */
  want(): void;
}

export function lazy<T extends object>(load: () => Promise<T>): Lazy<T> {
  const value = signal<T | null>(null);
  let asked = false;
  const want = () => {
    if (asked) return;
    asked = true;
    load().then(
      (loaded) => (value.value = loaded),
      () => (asked = false),
    );
  };
  return { value, want };
}
