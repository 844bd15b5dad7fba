// What a conversation is, as it is kept, and the prompt that is made of it. Pure.

import type { ChatMessage, CacheReport, Timings } from "headstart";
import type { Fault } from "./faults";

export interface Question {
  role: "user";
  id: string;
  content: string;
}

export type End = "stop" | "length" | "context" | "cancelled" | "failed";

export interface Answer {
  role: "assistant";
  id: string;
  content: string;
  end: End;
  account?: Account;
  fault?: Fault;
}

export type Turn = Question | Answer;

export interface Conversation {
  id: string;
  title: string;
  /** Whether a person named it; else its first question does. */
  named: boolean;
  updated: number;
  turns: Turn[];
}

/** A run of prompt tokens that one message owns, -1 being the template. */
export interface Owned {
  message: number;
  tokens: number;
}

/** Where the prompt of an answer came from, and what that took. */
export type Account = CacheReport & {
  timings: Timings;
  generated: number;
  /** What the prompt began with, so that its tokens can be shown again later. */
  system: string;
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

/** The messages that the answer after `turns` is made from. Answers that never began are left out. */
export function prompt(system: string, turns: readonly Turn[]): ChatMessage[] {
  const said = turns.filter((turn) => turn.role === "user" || turn.content !== "");
  const messages: ChatMessage[] = said.map(({ role, content }) => ({ role, content }));
  return system.trim() ? [{ role: "system", content: system }, ...messages] : messages;
}
