// Short messages at the edge of the page, one at a time, each with at most one action; and announcements for screen readers.

import { signal } from "@preact/signals";

export interface Notice {
  text: string;
  action?: { label: string; run(): void };
  /** Only beside this conversation. */
  beside?: string;
  /** Until it is dismissed, or another one comes: for what a person may have looked away from. */
  stays?: boolean;
}

/** Long enough to read it and to reach its button with the keyboard. */
const SHOWN_MS = 12_000;

export class Notices {
  readonly current = signal<Notice | null>(null);
  readonly spoken = signal("");
  #timer = 0;

  show(notice: Notice): void {
    clearTimeout(this.#timer);
    this.current.value = notice;
    if (!notice.stays) this.#timer = setTimeout(() => this.dismiss(), SHOWN_MS);
  }

  dismiss(): void {
    clearTimeout(this.#timer);
    this.current.value = null;
  }

  /** Read out when the reader is idle; said again if it is the same as before. */
  say(text: string): void {
    this.spoken.value = this.spoken.value === text ? `${text}\u00A0` : text;
  }
}
