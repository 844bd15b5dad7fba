// The conversations: which there are, which is open, and every change to them. Each change is shown at once and kept
// behind it; a change in another tab is taken over, unless this tab is answering in that conversation.

import { computed, signal } from "@preact/signals";
import { type Conversation, newId, titleOf, type Turn, UNTITLED } from "./conversation";
import type { Database } from "./database";
import type { Notices } from "./notices";

const OPEN = "headstart.open";

export class Library {
  readonly conversations = signal<readonly Conversation[]>([]);
  readonly openId = signal<string | null>(null);
  readonly open = computed(() => this.conversations.value.find(({ id }) => id === this.openId.value) ?? null);
  readonly loaded = signal(false);

  readonly #database: Database;
  readonly #notices: Notices;
  readonly #channel = new BroadcastChannel("headstart-demo");
  /** Writes follow one another, so that what was changed last is what stays. */
  #writes: Promise<unknown> = Promise.resolve();
  #failed = false;

  /** The conversation that is being answered in, which other tabs do not overwrite. */
  busy: string | null = null;

  constructor(database: Database, notices: Notices) {
    this.#database = database;
    this.#notices = notices;
    this.#channel.onmessage = (event: MessageEvent<string>) => void this.#takeOver(event.data);
  }

  async load(): Promise<void> {
    try {
      this.conversations.value = latestFirst(await this.#database.all());
    } catch {
      this.#cannotKeep();
    }
    const last = sessionStorage.getItem(OPEN);
    this.openId.value = this.find(last)?.id ?? this.conversations.value[0]?.id ?? null;
    this.loaded.value = true;
  }

  find(id: string | null): Conversation | undefined {
    return this.conversations.value.find((conversation) => conversation.id === id);
  }

  select(id: string | null): void {
    this.openId.value = id;
    if (id) sessionStorage.setItem(OPEN, id);
    else sessionStorage.removeItem(OPEN);
  }

  create(turns: Turn[]): Conversation {
    const conversation = { id: newId(), title: titleOf(turns), named: false, updated: Date.now(), turns };
    this.#set(conversation);
    this.select(conversation.id);
    return conversation;
  }

  rename(id: string, title: string): void {
    const found = this.find(id);
    const name = title.trim();
    if (found) this.#set({ ...found, title: name || titleOf(found.turns), named: name !== "" });
  }

  /** Replaces the turns of a conversation that may have been removed meanwhile: then nothing happens. */
  setTurns(id: string, turns: Turn[]): void {
    const found = this.find(id);
    if (found) this.#set({ ...found, turns, title: found.named ? found.title : titleOf(turns), updated: Date.now() });
  }

  setTurn(id: string, turn: Turn): void {
    const found = this.find(id);
    if (found) this.setTurns(id, found.turns.map((old) => (old.id === turn.id ? turn : old)));
  }

  remove(id: string): void {
    const found = this.find(id);
    if (!found) return;
    this.conversations.value = this.conversations.value.filter((conversation) => conversation.id !== id);
    if (this.openId.value === id) this.select(this.conversations.value[0]?.id ?? null);
    this.#write(id, () => this.#database.remove(id));
    const restore = () => {
      this.#set(found);
      this.select(found.id);
    };
    this.#notices.show({ text: `Deleted “${found.title || UNTITLED}”.`, action: { label: "Undo", run: restore } });
  }

  #set(conversation: Conversation): void {
    const others = this.conversations.value.filter(({ id }) => id !== conversation.id);
    this.conversations.value = latestFirst([conversation, ...others]);
    this.#write(conversation.id, () => this.#database.put(conversation));
  }

  #write(id: string, change: () => Promise<void>): void {
    this.#writes = this.#writes
      .then(change)
      .then(() => this.#channel.postMessage(id))
      .catch(() => this.#cannotKeep());
  }

  async #takeOver(id: string): Promise<void> {
    if (id === this.busy) return;
    const found = await this.#database.get(id).catch(() => undefined);
    const others = this.conversations.value.filter((conversation) => conversation.id !== id);
    this.conversations.value = latestFirst(found ? [found, ...others] : others);
    if (!found && this.openId.value === id) this.select(null);
  }

  #cannotKeep(): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#notices.show({ text: "This browser refuses to keep conversations: they last until the page is closed." });
  }
}

function latestFirst(conversations: Conversation[]): Conversation[] {
  return conversations.sort((one, other) => other.updated - one.updated);
}
