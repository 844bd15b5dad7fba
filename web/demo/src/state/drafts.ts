// What a person has written and not sent: a message of each conversation, and questions that are being edited. It is kept in
// localStorage, so that neither a reload nor another conversation loses it.

import { signal } from "@preact/signals";

const PREFIX = "headstart.draft.";

/** The id of a conversation or of a question; null for a conversation that has not begun. */
type Place = string | null;

export class Drafts {
  readonly #texts = signal<ReadonlyMap<string, string>>(read());

  /** Empty where there is none. */
  of(place: Place): string {
    return this.#texts.value.get(keyOf(place)) ?? "";
  }

  /** An empty text removes the draft. */
  set(place: Place, text: string): void {
    const key = keyOf(place);
    const texts = new Map(this.#texts.value);
    if (text) texts.set(key, text);
    else texts.delete(key);
    this.#texts.value = texts;
    try {
      if (text) localStorage.setItem(key, text);
      else localStorage.removeItem(key);
    } catch {
      // Without room, or in a browser that keeps nothing, it lasts until the page is closed.
    }
  }

  move(from: Place, to: Place): void {
    const text = this.of(from);
    this.set(from, "");
    this.set(to, text);
  }

  /** Removes the drafts of what is gone. */
  keepOnly(ids: ReadonlySet<string>): void {
    const kept = new Set([keyOf(null), ...[...ids].map(keyOf)]);
    for (const key of this.#texts.value.keys()) if (!kept.has(key)) this.set(key.slice(PREFIX.length), "");
  }
}

const keyOf = (place: Place): string => PREFIX + (place ?? "new");

function read(): Map<string, string> {
  try {
    return new Map(Object.entries(localStorage).filter(([key]) => key.startsWith(PREFIX)));
  } catch {
    return new Map();
  }
}
