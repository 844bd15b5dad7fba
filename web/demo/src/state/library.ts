// The conversations, the open one, and every change to them. A change is shown at once and saved afterwards, merged with the changes
// of other tabs.

import { computed, signal } from "@preact/signals";
import { type Conversation, newId, titleOf, type Turn, UNTITLED } from "./conversation";
import type { Database } from "./database";
import { merge } from "./merge";
import type { Notices } from "./notices";

/** The conversation that this tab has open; empty for one that has not begun. */
const OPEN = "headstart.open";

export class Library {
  readonly conversations = signal<readonly Conversation[]>([]);
  readonly openId = signal(sessionStorage.getItem(OPEN) || null);
  readonly open = computed(() => this.conversations.value.find(({ id }) => id === this.openId.value) ?? null);
  readonly loaded = signal(false);

  readonly #database: Database;
  readonly #notices: Notices;
  readonly #channel = new BroadcastChannel("headstart-demo");
  /** Each conversation as this tab last read or wrote it. */
  readonly #known = new Map<string, Conversation>();
  /** Reads and writes follow one another. */
  #work: Promise<unknown> = Promise.resolve();
  #failed = false;

  constructor(database: Database, notices: Notices) {
    this.#database = database;
    this.#notices = notices;
    this.#channel.onmessage = (event: MessageEvent<string>) => void this.refresh(event.data);
  }

  /** The conversations that are kept, or null where they cannot be read. A new tab opens the latest one, unless it `beginsNew`. */
  async load(beginsNew: () => boolean): Promise<readonly Conversation[] | null> {
    let kept: Conversation[] | null = null;
    try {
      kept = await this.#database.all();
      for (const conversation of kept) this.#known.set(conversation.id, conversation);
      this.conversations.value = latestFirst(kept);
    } catch {
      this.#cannotKeep();
    }
    const last = sessionStorage.getItem(OPEN);
    const isNew = last === "" || (last === null && beginsNew());
    this.openId.value = this.find(last)?.id ?? (isNew ? null : (this.conversations.value[0]?.id ?? null));
    this.loaded.value = true;
    return kept;
  }

  find(id: string | null): Conversation | undefined {
    return this.conversations.value.find((conversation) => conversation.id === id);
  }

  select(id: string | null): void {
    this.openId.value = id;
    sessionStorage.setItem(OPEN, id ?? "");
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
  setTurns(id: string, turns: readonly Turn[]): void {
    const found = this.find(id);
    if (found) this.#set({ ...found, turns, title: found.named ? found.title : titleOf(turns), updated: Date.now() });
  }

  setTurn(id: string, turn: Turn): void {
    const found = this.find(id);
    if (found?.turns.some((old) => old.id === turn.id && old !== turn)) this.setTurns(id, found.turns.map((old) => (old.id === turn.id ? turn : old)));
  }

  remove(id: string): void {
    const found = this.find(id);
    if (!found) return;
    this.#hide(id);
    if (this.openId.value === id) this.select(this.conversations.value[0]?.id ?? null);
    let last = found;
    const taking = this.#inTurn(() =>
      this.#database.change(id, (kept) => {
        if (kept) last = merge(this.#known.get(id), found, kept);
        this.#known.delete(id);
        return undefined;
      }),
    ).then(() => this.#channel.postMessage(id));
    this.#notices.show({ text: `Deleted “${found.title || UNTITLED}”.`, action: { label: "Undo", run: () => void taking.then(() => this.#restore(last)) } });
  }

  /** Reads a conversation again from the database. */
  refresh(id: string): Promise<void> {
    return this.#inTurn(async () => {
      const kept = await this.#database.get(id);
      const [base, shown] = [this.#known.get(id), this.find(id)];
      if (!kept) return base && this.#removedElsewhere(id);
      if (base && kept.version === base.version) return;
      this.#known.set(id, kept);
      if (shown) this.#show(merge(base, shown, kept));
      else if (!base) this.#show(kept);
    });
  }

  /** Resolves when all changes so far are saved. */
  async settled(): Promise<void> {
    await this.#work;
  }

  #set(conversation: Conversation): void {
    this.#show(conversation);
    void this.#keep(conversation.id);
  }

  #show(conversation: Conversation): void {
    const others = this.conversations.value.filter(({ id }) => id !== conversation.id);
    this.conversations.value = latestFirst([conversation, ...others]);
  }

  #hide(id: string): void {
    this.conversations.value = this.conversations.value.filter((conversation) => conversation.id !== id);
  }

  /** Saves the shown conversation, merged with what other tabs have saved since. */
  #keep(id: string): Promise<void> {
    return this.#inTurn(async () => {
      const [mine, base] = [this.find(id), this.#known.get(id)];
      if (!mine || mine === base) return;
      const kept = await this.#database.change(id, (theirs) => {
        if (!theirs && base) return undefined;
        return { ...(theirs ? merge(base, mine, theirs) : mine), version: (theirs?.version ?? 0) + 1 };
      });
      if (!kept) return this.#removedElsewhere(id);
      const shown = this.find(id);
      this.#known.set(id, kept);
      if (shown) this.#show(shown === mine ? kept : merge(mine, shown, kept));
      this.#channel.postMessage(id);
    });
  }

  #removedElsewhere(id: string): void {
    const shown = this.find(id);
    this.#known.delete(id);
    this.#hide(id);
    if (!shown || this.openId.value !== id) return;
    this.select(null);
    const action = { label: "Bring it back", run: () => this.#restore(shown) };
    this.#notices.show({ text: `Another tab deleted “${shown.title || UNTITLED}”.`, action, stays: true });
  }

  #restore(conversation: Conversation): void {
    this.#set(conversation);
    this.select(conversation.id);
  }

  #inTurn(work: () => Promise<unknown>): Promise<void> {
    const done = this.#work.then(work).then(
      () => undefined,
      () => this.#cannotKeep(),
    );
    this.#work = done;
    return done;
  }

  #cannotKeep(): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#notices.show({ text: "This browser does not keep conversations. They last until the page is closed.", stays: true });
  }
}

function latestFirst(conversations: Conversation[]): Conversation[] {
  return conversations.sort((one, other) => other.updated - one.updated);
}
