// Makes a conversation fit a model's context: without its oldest turns, or with less of its longest message. Cost: one rendered prompt
// for each halving of the turns, or for each cut.

import type { HeadstartInterface, RenderedPrompt } from "headstart";
import { compose, type Overflow, type Prompt, prompt, readTurns, textRead, type Turn } from "./conversation";

/** Fewer tokens of a message than these are not worth reading. */
const LEAST = 16;

export class Room {
  readonly #headstart: Pick<HeadstartInterface, "renderPrompt" | "context">;
  readonly #system: string;
  /** Tokens that a prompt is made to have at most. */
  readonly #limit: number;

  /** `answer`: tokens to leave for the answer; at most a fourth of the context is. */
  constructor(headstart: Pick<HeadstartInterface, "renderPrompt" | "context">, system: string, answer: number) {
    this.#headstart = headstart;
    this.#system = system;
    this.#limit = headstart.context - Math.max(1, Math.min(answer, Math.floor(headstart.context / 4)));
  }

  /** What of these turns is too long, and what would help. `made` and `rendered` are their prompt. */
  async overflow(turns: readonly Turn[], made: Prompt, rendered: RenderedPrompt): Promise<Overflow> {
    const { turn, tokens, others } = longest(made, rendered);
    const total = rendered.tokens.length;
    const isLast = turn !== null && turn === turns.at(-1);
    const shorten = turn !== null && total > this.#limit && (this.#limit - (total - tokens) >= this.#least(isLast) || (isLast && this.#limit - (total - tokens - others) >= LEAST));
    const leave = isLast && tokens > this.#limit ? null : await this.#turnsToLeave(turns);
    return { tokens: total, context: this.#headstart.context, longest: { turn: turn?.id ?? null, tokens }, leave, shorten };
  }

  /** The turns, of which a prompt leaves out as many of the oldest ones as do not fit, at least one; null where that is not enough. */
  async withoutOldest(turns: readonly Turn[]): Promise<readonly Turn[] | null> {
    const leave = await this.#turnsToLeave(turns);
    return leave === null ? null : without(turns, leave);
  }

  /**
   * The turns, of which a prompt has the beginning of the longest message only, and, where little of the last question would be
   * left, none before it; null where that is not enough.
   */
  async shortened(turns: readonly Turn[]): Promise<readonly Turn[] | null> {
    const made = compose(this.#system, turns);
    const rendered = await this.#headstart.renderPrompt(made.messages);
    const { turn, tokens } = longest(made, rendered);
    if (!turn) return null;
    const isLast = turn === turns.at(-1);
    const some = await this.#cut(turns, turn, tokens, this.#least(isLast));
    return some ?? (isLast ? this.#cut(without(turns, turns.length - 1), turn, tokens, LEAST) : null);
  }

  /** Tokens of the longest message that are worth reading: of a question, more than a few. */
  #least(isLast: boolean): number {
    return isLast ? Math.max(LEAST, Math.floor(this.#limit / 4)) : LEAST;
  }

  /** Reads less of one turn, which has so many `tokens`, until all fits; null where fewer than `least` of them would. */
  async #cut(turns: readonly Turn[], long: Turn, tokens: number, least: number): Promise<readonly Turn[] | null> {
    const text = textRead(long);
    let [over, found] = [(await this.#count(turns)) - this.#limit, turns];
    for (let still = over; still > 0; over += still) {
      const read = wordEnd(text, Math.floor((text.length * (tokens - over)) / tokens));
      if (tokens - over < least || read <= 0) return null;
      found = turns.map((turn) => (turn === long ? { ...turn, read } : turn));
      still = (await this.#count(found)) - this.#limit;
    }
    return found;
  }

  async #count(turns: readonly Turn[]): Promise<number> {
    return (await this.#headstart.renderPrompt(prompt(this.#system, turns))).tokens.length;
  }

  /** How many of the oldest turns have to go, so that the rest begins with a question and fits; null where the last question does not. */
  async #turnsToLeave(turns: readonly Turn[]): Promise<number | null> {
    const read = new Set(readTurns(turns));
    const starts = turns.flatMap((turn, index) => (turn.role === "user" && index > 0 && read.has(turn) ? [index] : []));
    const fits = async (start: number) => (await this.#count(turns.slice(start))) <= this.#limit;
    if (starts.length === 0 || !(await fits(starts.at(-1)!))) return null;
    let [low, high] = [0, starts.length - 1];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (await fits(starts[middle]!)) high = middle;
      else low = middle + 1;
    }
    return starts[low]!;
  }
}

const without = (turns: readonly Turn[], leave: number): Turn[] => turns.map((turn, index) => (index < leave ? { ...turn, read: 0 } : turn));

/** The message with the most tokens, by its turn, or null for the system prompt; and the tokens of all other messages of turns. */
function longest(made: Prompt, { message }: RenderedPrompt): { turn: Turn | null; tokens: number; others: number } {
  const sizes = made.messages.map(() => 0);
  for (const index of message) if (index >= 0) sizes[index]! += 1;
  const tokens = Math.max(0, ...sizes);
  const at = sizes.indexOf(tokens);
  const others = sizes.reduce((sum, size, index) => sum + (index === at || !made.turns[index] ? 0 : size), 0);
  return { turn: made.turns[at] ?? null, tokens, others };
}

/** Where the last word before `length` ends; at `length` where there is no white space near. Never within a character. */
function wordEnd(text: string, length: number): number {
  const near = /\s\S*$/.exec(text.slice(Math.max(0, length - 40), length));
  const end = near ? length - near[0].length : length;
  return /[\uD800-\uDBFF]/.test(text[end - 1] ?? "") ? end - 1 : end;
}
