// Questions and answers in the open conversation: send, stop, edit, regenerate, make room. This tab writes one answer at a time, and
// all tabs together write one answer at a time in each conversation.

import { computed, effect, signal } from "@preact/signals";
import type { CacheReport, ChatCompletionChunk, PromptProgress, RenderedPrompt, Timings } from "headstart";
import { ownership } from "../cache/strip";
import { parts, words } from "../text/thinking";
import { type Account, type Answer, compose, newId, type Question, readTurns, type Turn } from "./conversation";
import { endsModel, faultOf, isAbort } from "./faults";
import type { Library } from "./library";
import type { Model } from "./model";
import type { Notices } from "./notices";
import { Rates } from "./rates";
import { Room } from "./room";
import type { Settings } from "./settings";
import type { Tabs } from "./tabs";

/** The answer that is being written. */
export interface Live {
  conversation: string;
  answer: string;
  content: string;
  /** Whether it waits for an answer of another tab in this conversation. */
  waits?: boolean;
  /** The progress of its prompt, until the answer begins. */
  reading?: PromptProgress;
  /** The complete answer while it is being saved. A page that is closed then loses nothing. */
  ended?: Answer;
}

/** How often an unfinished answer is saved, so that closing the page loses little. */
const KEEP_MS = 2000;

export class Chat {
  readonly live = signal<Live | null>(null);
  readonly #rates = new Rates();
  #stop = new AbortController();

  constructor(
    readonly library: Library,
    readonly model: Model,
    readonly settings: Settings,
    readonly notices: Notices,
    readonly tabs: Tabs,
  ) {
    effect(() => {
      if (this.live.value && !library.find(this.live.value.conversation)) this.stop();
    });
  }

  /** Whether a question can be sent now. It changes when an answer begins and ends, not with each word. */
  readonly ready = computed(() => this.model.phase.value.name === "ready" && this.live.value === null);

  /** Whether another tab answers in the open conversation. */
  readonly elsewhere = computed(() => this.library.open.value?.turns.some(({ id }) => this.tabs.others.value.has(`answer ${id}`)) ?? false);

  /** Whether turns can be replaced now. */
  readonly changeable = computed(() => this.ready.value && !this.elsewhere.value);

  send(text: string): void {
    const content = text.trim();
    if (!content || !this.ready.value) return;
    const question: Question = { role: "user", id: newId(), content };
    const open = this.library.open.value;
    if (open) this.#begin(open.id, [...open.turns, question]);
    else this.#begin(this.library.create([question]).id, [question]);
  }

  /** Shows the answer as ended at once. The engine stops later, and its account of the prompt is then added. */
  stop(): void {
    const live = this.live.value;
    if (!live) return;
    this.#stop.abort();
    this.#end(live.conversation, live.ended ?? { role: "assistant", id: live.answer, content: live.content, end: "cancelled" });
  }

  /** Replaces an earlier question and asks it again. Later turns are removed, and Undo restores them. */
  edit(id: string, text: string): void {
    const content = text.trim();
    this.#rewind(id, (question) => ({ role: "user", id: newId(), content: content || question.content }));
  }

  /** Answers the question before an answer again. */
  regenerate(id: string): void {
    const question = this.#before(id).findLast((turn) => turn.role === "user");
    if (question) this.#rewind(question.id, (same) => same);
  }

  /** Answers again without the oldest turns, or with less of the longest one, so that the prompt fits the model's context. */
  async makeRoom(id: string, how: "withoutOldest" | "shortened"): Promise<void> {
    const [conversation, headstart, turns] = [this.library.openId.value, this.model.headstart, this.#before(id)];
    if (!conversation || !headstart || !this.changeable.value) return;
    const { system, maxTokens } = this.settings.choices.value;
    try {
      const fitting = await new Room(headstart, system, maxTokens)[how](turns);
      const now = this.#before(id);
      const isSame = this.library.openId.value === conversation && now.length === turns.length;
      if (isSame && this.changeable.value) this.#begin(conversation, fitting ?? turns);
    } catch (thrown) {
      this.notices.show({ text: `${faultOf(thrown).title}.` });
    }
  }

  /** Lets the model read all of these turns again. */
  readAgain(ids: readonly string[]): void {
    const open = this.library.open.value;
    if (!open) return;
    const whole = ({ read: _, ...turn }: Turn): Turn => turn;
    this.library.setTurns(open.id, open.turns.map((turn) => (ids.includes(turn.id) ? whole(turn) : turn)));
  }

  #before(id: string): readonly Turn[] {
    const turns = this.library.open.value?.turns ?? [];
    return turns.slice(0, Math.max(0, turns.findIndex((turn) => turn.id === id)));
  }

  #rewind(id: string, change: (question: Question) => Question): void {
    const open = this.library.open.value;
    const at = open?.turns.findIndex((turn) => turn.id === id) ?? -1;
    const found = open?.turns[at];
    if (!open || !this.changeable.value || found?.role !== "user") return;
    const before = open.turns;
    const turns = [...before.slice(0, at), change(found)];
    const removed = before.length - turns.length;
    if (removed > 1) {
      const run = () => {
        this.stop();
        this.library.setTurns(open.id, before);
      };
      this.notices.show({ text: `${removed} later messages were removed.`, action: { label: "Undo", run }, beside: open.id });
    }
    this.#begin(open.id, turns);
  }

  /** Answers after `turns`, once what was asked before has ended. */
  #begin(conversation: string, turns: readonly Turn[]): void {
    const answer: Answer = { role: "assistant", id: newId(), content: "", end: "cancelled" };
    this.#stop = new AbortController();
    this.library.setTurns(conversation, [...turns, answer]);
    this.live.value = { conversation, answer: answer.id, content: "" };
    this.notices.say("Answering.");
    const [before, { signal }] = [this.model.answering, this.#stop];
    this.model.answering = this.tabs.show(`answer ${answer.id}`, async () => {
      await before;
      await this.#answer(conversation, answer, signal);
    });
  }

  async #answer(conversation: string, begun: Answer, stop: AbortSignal): Promise<void> {
    let answer = begun;
    const show = (more: Partial<Live>) => {
      if (!stop.aborted) this.live.value = { conversation, answer: answer.id, content: answer.content, ...more };
    };
    try {
      await this.tabs.inTurn(`conversation ${conversation}`, stop, () => show({ waits: true }), async () => {
        await this.library.refresh(conversation);
        if (stop.aborted) return;
        show({});
        for await (const next of this.#written(conversation, answer, stop, (reading) => show({ reading }))) {
          answer = next;
          show({});
        }
        if (stop.aborted) answer = { ...answer, end: "cancelled" };
        this.library.setTurn(conversation, answer);
        show({ ended: answer });
        await this.library.settled();
        this.#end(conversation, answer);
      });
    } catch (thrown) {
      if (isAbort(thrown) || stop.aborted) return this.#end(conversation, { ...answer, end: "cancelled" });
      this.#end(conversation, { ...answer, end: "failed", fault: faultOf(thrown) });
    }
  }

  /** The answer as it grows, and last of all with its end. */
  async *#written(conversation: string, begun: Answer, stop: AbortSignal, onReading: (reading: PromptProgress) => void): AsyncGenerator<Answer> {
    const headstart = this.model.headstart;
    if (!headstart) throw { code: "disposed", message: "the model was closed" };
    const { system, temperature, maxTokens, cache } = this.settings.choices.value;
    const turns = this.#turnsBefore(conversation, begun.id);
    const made = compose(system, turns);
    const rendered = await headstart.renderPrompt(made.messages);
    if (stop.aborted) return;
    const overflow = () => new Room(headstart, system, maxTokens).overflow(turns, made, rendered);
    if (rendered.tokens.length >= headstart.context) return void (yield { ...begun, end: "refused", overflow: await overflow() });
    let answer = begun;
    let kept = performance.now();
    try {
      const { messages } = made;
      const request = { messages, stream: true as const, temperature, max_tokens: maxTokens, no_cache: !cache, onPromptProgress: onReading };
      const stream = await headstart.chat.completions.create(request);
      // Unlike a signal given with the request, this ends the answer with its account.
      const end = () => stream.abort();
      stop.addEventListener("abort", end);
      if (stop.aborted) end();
      for await (const chunk of stream) {
        if (!stop.aborted) answer = { ...answer, content: answer.content + (chunk.choices[0].delta.content ?? "") };
        if (chunk.headstart) {
          answer = { ...answer, end: chunk.headstart.finish, account: this.#account(chunk, headstart.model, system, turns, rendered) };
          if (answer.end === "context") answer = { ...answer, overflow: await overflow() };
        }
        yield answer;
        if (performance.now() - kept > KEEP_MS && !stop.aborted) {
          kept = performance.now();
          this.library.setTurn(conversation, answer);
        }
      }
    } catch (thrown) {
      const fault = faultOf(thrown);
      if (endsModel(fault) && headstart === this.model.headstart) this.model.fail(fault);
      throw thrown;
    }
  }

  /** What the last chunk of an answer tells of its prompt. */
  #account(chunk: ChatCompletionChunk, model: string, system: string, turns: readonly Turn[], { message }: RenderedPrompt): Account {
    const { cache, timings } = chunk.headstart!;
    const read = readTurns(turns).map(({ id, read }) => ({ id, ...(read !== undefined && { read }) }));
    const generated = chunk.usage?.completion_tokens ?? 0;
    return { ...cache, timings, generated, system, turns: read, owned: ownership(message), savedMs: this.#saved(model, cache, timings) };
  }

  #turnsBefore(conversation: string, answer: string): readonly Turn[] {
    const turns = this.library.find(conversation)?.turns ?? [];
    return turns.slice(0, turns.findIndex(({ id }) => id === answer));
  }

  /** Shows and keeps how an answer ended. */
  #end(conversation: string, answer: Answer): void {
    this.library.setTurn(conversation, answer);
    if (this.live.value?.answer !== answer.id) return;
    this.live.value = null;
    this.notices.say(spoken(answer));
  }

  /** Milliseconds of prefill that reuse saved: the package's own figure, else by the rate measured on this machine. */
  #saved(model: string, cache: CacheReport, timings: Timings): number | null {
    const { computed } = cache.sources;
    this.#rates.measure(model, computed, timings.prefill_tok_s);
    const saved = cache.saved_ms ?? this.#rates.expected(model, cache.prompt_tokens - computed);
    return saved === null ? null : Math.max(0, saved);
  }
}

/** Short answers are read out whole, long ones announced. */
const READ_OUT = 280;

function spoken(answer: Answer): string {
  if (answer.end === "failed") return `Failed: ${answer.fault?.title ?? ""}`;
  if (answer.end === "refused") return "Not asked: the conversation is too long for the model.";
  if (answer.end === "cancelled") return "Stopped.";
  const said = parts(answer.content).answer;
  if (said.length <= READ_OUT) return `Answer: ${said}`;
  return `Answer complete, ${words(said)} words.`;
}
