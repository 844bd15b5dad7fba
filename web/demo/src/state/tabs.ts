// Tells tabs of the page what the other tabs do. A Web Lock backs each activity, so it ends with its tab, even after a crash. A channel
// carries the progress. Without Web Locks, tabs know nothing of each other.

import { signal } from "@preact/signals";
import type { Progress } from "headstart";

/** What others are told of: an answer that is being written, by its id, or a model that is being fetched, by its address. */
export type Doing = `answer ${string}` | `model ${string}`;

export const isModel = (doing: Doing): boolean => doing.startsWith("model ");
export const addressOf = (doing: Doing): string => doing.slice("model ".length);

/** How far it is, where that can be told. */
export interface Word {
  progress?: Progress;
  /** Bytes a second. */
  pace?: number | null;
}

type Message = { doing: Doing; word: Word } | "who?";

const PREFIX = "headstart-demo ";
/** How often others are told how far something is. */
const TELL_MS = 200;

export class Tabs {
  /** What other tabs do now. */
  readonly others = signal<ReadonlyMap<Doing, Word>>(new Map());
  readonly #own = new Map<Doing, Word>();
  readonly #channel = new BroadcastChannel("headstart-demo-tabs");

  constructor() {
    if (!navigator.locks) return;
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data !== "who?") this.#hear(data.doing, data.word);
      else for (const [doing, word] of this.#own) this.#channel.postMessage({ doing, word });
    };
    this.#channel.postMessage("who?");
  }

  /** Lets others know of `work` while it goes on, and of what it `tell`s. */
  async show<T>(doing: Doing, work: (tell: (word: Word) => void) => Promise<T>): Promise<T> {
    if (!navigator.locks) return work(() => undefined);
    const over = new AbortController();
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    let word: Word = {};
    let told = 0;
    const granted = () => {
      this.#forget(doing);
      this.#own.set(doing, word);
      this.#channel.postMessage({ doing, word });
      return ended;
    };
    navigator.locks.request(PREFIX + doing, { signal: over.signal }, granted).catch(() => undefined);
    const tell = (next: Word) => {
      word = next;
      if (!this.#own.has(doing)) return;
      this.#own.set(doing, word);
      if (performance.now() - told < TELL_MS) return;
      told = performance.now();
      this.#channel.postMessage({ doing, word });
    };
    try {
      return await work(tell);
    } finally {
      over.abort();
      this.#own.delete(doing);
      end();
    }
  }

  /**
   * Does `work` when no other tab does anything under this name. `onWait` is called where that is not at once.
   * @throws an AbortError where the signal ends the wait
   */
  async inTurn<T>(name: string, signal: AbortSignal, onWait: () => void, work: () => Promise<T>): Promise<T> {
    if (!navigator.locks) return work();
    const done = await navigator.locks.request(PREFIX + name, { ifAvailable: true }, async (lock) => lock && { result: await work() });
    if (done) return done.result;
    onWait();
    return navigator.locks.request(PREFIX + name, { signal }, async () => work());
  }

  #hear(doing: Doing, word: Word): void {
    const isNew = !this.others.value.has(doing);
    this.others.value = new Map(this.others.value).set(doing, word);
    // Granted when the tab that does it has ended it, or has ended.
    if (isNew) void navigator.locks.request(PREFIX + doing, { mode: "shared" }, () => this.#forget(doing));
  }

  #forget(doing: Doing): void {
    if (!this.others.value.has(doing)) return;
    const left = new Map(this.others.value);
    left.delete(doing);
    this.others.value = left;
  }
}
