// The stored form of a conversation, and the prompt made from it. Pure.

import type { ChatMessage, CacheReport, Timings } from "headstart";
import type { Fault } from "./faults";

interface Said {
  id: string;
  content: string;
  /** The number of its characters in prompts. Absent: all of them. 0 leaves the turn out. */
  read?: number;
}

export interface Question extends Said {
  role: "user";
}

/** `refused`: the question was not asked, because it does not fit the model's context. */
export type End = "stop" | "length" | "context" | "cancelled" | "failed" | "refused";

export interface Answer extends Said {
  role: "assistant";
  end: End;
  account?: Account;
  fault?: Fault;
  overflow?: Overflow;
}

export type Turn = Question | Answer;

export interface Conversation {
  id: string;
  title: string;
  /** Whether a person named it. Otherwise the title is its first question. */
  named: boolean;
  updated: number;
  turns: readonly Turn[];
  /** The number of times that any tab has saved it. */
  version?: number;
}

/** A prompt that does not fit a model's context, and the changes that would make it fit. */
export interface Overflow {
  /** Tokens of the prompt. */
  tokens: number;
  /** Context length in tokens, the answer included. */
  context: number;
  /** The message with the most tokens: of a turn, or, where that is null, the system prompt. */
  longest: { turn: string | null; tokens: number };
  /** How many of the oldest turns have to be left out; null where that is not enough. */
  leave: number | null;
  /** Whether it is enough to shorten the longest message. */
  shorten: boolean;
}

/** A run of prompt tokens that one message owns, -1 being the template. */
export interface Owned {
  message: number;
  tokens: number;
}

/** The account of an answer's prompt. */
export type Account = CacheReport & {
  timings: Timings;
  generated: number;
  /** What the prompt began with, so that its tokens can be shown again later. */
  system: string;
  /** The turns it was made of, and how much of them was read. Conversations that were kept earlier have none. */
  turns?: readonly Pick<Said, "id" | "read">[];
  owned: Owned[];
  savedMs: number | null;
};

export const newId = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const UNTITLED = "New conversation";

export function titleOf(turns: readonly Turn[]): string {
  const first = turns.find((turn) => turn.role === "user")?.content.trim().replace(/\s+/g, " ");
  if (!first) return UNTITLED;
  return first.length > 60 ? `${first.slice(0, 59).trimEnd()}…` : first;
}

const isRefused = (turn: Turn | undefined): boolean => turn?.role === "assistant" && turn.end === "refused";

/** The turns that a prompt is made of: without answers that never began, questions that were refused, and what was left out. */
export const readTurns = (turns: readonly Turn[]): Turn[] =>
  turns.filter(({ role, content, read }, index) => read !== 0 && content !== "" && !(role === "user" && isRefused(turns[index + 1])));

/** What a model reads of a turn. */
export const textRead = ({ content, read }: Turn): string => content.slice(0, read);

export interface Prompt {
  messages: ChatMessage[];
  /** Of each message the turn that most of it is from; null for the system prompt. */
  turns: (Turn | null)[];
}

/** The prompt of the answer after `turns`. Questions that follow one another become one message, as chat templates ask for turns. */
export function compose(system: string, turns: readonly Turn[]): Prompt {
  const made: Prompt = { messages: [], turns: [] };
  const add = (role: string, content: string, turn: Turn | null) => {
    made.messages.push({ role, content });
    made.turns.push(turn);
  };
  if (system.trim()) add("system", system, null);
  for (const turn of readTurns(turns)) {
    const last = made.messages.at(-1);
    const before = made.turns.at(-1);
    if (last?.role !== turn.role || !before) add(turn.role, textRead(turn), turn);
    else {
      made.messages[made.messages.length - 1] = { ...last, content: `${String(last.content)}\n\n${textRead(turn)}` };
      if (textRead(turn).length > textRead(before).length) made.turns[made.turns.length - 1] = turn;
    }
  }
  return made;
}

export const prompt = (system: string, turns: readonly Turn[]): ChatMessage[] => compose(system, turns).messages;

/** The prompt that an account is of. `before`: the turns before its answer, as they are now. */
export function promptOf(account: Account, before: readonly Turn[]): ChatMessage[] {
  const found = account.turns?.flatMap(({ id, read }) => {
    const turn = before.find((turn) => turn.id === id);
    if (!turn) return [];
    const { read: _, ...whole } = turn;
    return [read === undefined ? whole : { ...whole, read }];
  });
  return prompt(account.system, found ?? before);
}
