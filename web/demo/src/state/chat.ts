// Asking and answering in the open conversation: send, stop, edit, regenerate. One answer at a time.

import { computed, signal } from "@preact/signals";
import type { CacheReport, PromptProgress, Timings } from "headstart";
import { ownership } from "../cache/strip";
import { parts, words } from "../text/thinking";
import { type Answer, newId, prompt, type Question, type Turn } from "./conversation";
import { endsModel, faultOf, isAbort } from "./faults";
import type { Library } from "./library";
import type { Model } from "./model";
import type { Notices } from "./notices";
import { Rates } from "./rates";
import type { Settings } from "./settings";

/** The answer that is being written. */
export interface Live {
  conversation: string;
  answer: string;
  content: string;
  /** How far its prompt is, until the answer begins. */
  reading?: PromptProgress;
}

/** How often an unfinished answer is kept, so that closing the page loses little. */
const KEEP_MS = 2000;

export class Chat {
  readonly live = signal<Live | null>(null);
  readonly #stop = { current: null as AbortController | null };
  readonly #rates = new Rates();

  constructor(
    readonly library: Library,
    readonly model: Model,
    readonly settings: Settings,
    readonly notices: Notices,
  ) {}

  /** Whether something can be asked now. Changes when an answer begins and ends, not with each word of it. */
  readonly ready = computed(() => this.model.phase.value.name === "ready" && this.live.value === null);

  send(text: string): void {
    const content = text.trim();
    if (!content || !this.ready.value) return;
    const question: Question = { role: "user", id: newId(), content };
    const open = this.library.open.value;
    const turns = [...(open?.turns ?? []), question];
    if (open) this.library.setTurns(open.id, turns);
    this.#begin(open?.id ?? this.library.create(turns).id, turns);
  }

  stop(): void {
    this.#stop.current?.abort();
  }

  /** Asks something else in place of an earlier question; what followed goes, and can be brought back. */
  edit(id: string, text: string): void {
    const content = text.trim();
    this.#rewind(id, (question) => ({ ...question, id: newId(), content: content || question.content }));
  }

  /** Answers the question before an answer again. */
  regenerate(id: string): void {
    const turns = this.library.open.value?.turns ?? [];
    const at = turns.findIndex((turn) => turn.id === id);
    const question = turns.slice(0, at).findLast((turn) => turn.role === "user");
    if (question) this.#rewind(question.id, (same) => same);
  }

  #rewind(id: string, change: (question: Question) => Question): void {
    const open = this.library.open.value;
    const at = open?.turns.findIndex((turn) => turn.id === id) ?? -1;
    const found = open?.turns[at];
    if (!open || !this.ready.value || found?.role !== "user") return;
    const before = open.turns;
    const turns = [...before.slice(0, at), change(found)];
    this.library.setTurns(open.id, turns);
    const removed = before.length - turns.length;
    if (removed > 1) {
      const run = () => {
        this.stop();
        this.library.setTurns(open.id, before);
      };
      this.notices.show({ text: `${removed} later messages were removed.`, action: { label: "Undo", run } });
    }
    this.#begin(open.id, turns);
  }

  #begin(conversation: string, turns: Turn[]): void {
    this.model.answering = this.#answer(conversation, turns);
  }

  async #answer(conversation: string, turns: Turn[]): Promise<void> {
    const headstart = this.model.headstart;
    if (!headstart) return;
    const { system, temperature, maxTokens, cache } = this.settings.choices.value;
    const messages = prompt(system, turns);
    let answer: Answer = { role: "assistant", id: newId(), content: "", end: "cancelled" };
    const stop = new AbortController();
    this.#stop.current = stop;
    this.library.busy = conversation;
    this.library.setTurns(conversation, [...turns, answer]);
    this.live.value = { conversation, answer: answer.id, content: "" };
    this.notices.say("Answering.");
    let kept = performance.now();
    try {
      const stream = await headstart.chat.completions.create({
        messages,
        stream: true,
        temperature,
        max_tokens: maxTokens,
        no_cache: !cache,
        onPromptProgress: (reading) => {
          this.live.value = { conversation, answer: answer.id, content: answer.content, reading };
        },
      });
      // Unlike a signal given with the request, this ends the answer with its account.
      const end = () => stream.abort();
      stop.signal.addEventListener("abort", end);
      if (stop.signal.aborted) end();
      for await (const chunk of stream) {
        const [choice] = chunk.choices;
        answer = { ...answer, content: answer.content + (choice?.delta.content ?? "") };
        if (chunk.headstart) {
          const { cache, timings, finish } = chunk.headstart;
          const owned = await headstart.renderPrompt(messages).then(({ message }) => ownership(message)).catch(() => []);
          const generated = chunk.usage?.completion_tokens ?? 0;
          answer = { ...answer, end: finish, account: { ...cache, timings, generated, system, owned, savedMs: this.#saved(headstart.model, cache, timings) } };
        }
        this.live.value = { conversation, answer: answer.id, content: answer.content };
        if (performance.now() - kept > KEEP_MS) {
          kept = performance.now();
          this.library.setTurn(conversation, answer);
        }
      }
      if (stop.signal.aborted) answer = { ...answer, end: "cancelled" };
    } catch (thrown) {
      if (isAbort(thrown) || stop.signal.aborted) answer = { ...answer, end: "cancelled" };
      else {
        const fault = faultOf(thrown);
        answer = { ...answer, end: "failed", fault };
        if (endsModel(fault) && headstart === this.model.headstart) this.model.fail(fault);
      }
    }
    this.library.setTurn(conversation, answer);
    this.library.busy = null;
    this.#stop.current = null;
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
  if (answer.end === "cancelled") return "Stopped.";
  const said = parts(answer.content).answer;
  if (said.length <= READ_OUT) return `Answer: ${said}`;
  return `Answer complete, ${words(said)} words.`;
}
