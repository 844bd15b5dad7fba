// Turns the account of a prompt into the cells of a strip: one for each token, or for a few tokens of a long prompt. A cell never spans
// two sources or two messages, so it is right for each of its tokens.

import type { Account, Owned } from "../state/conversation";
import { SOURCES, type Source } from "./sources";

export interface Run {
  source: Source;
  tokens: number;
}

export interface Cell {
  from: number;
  tokens: number;
  source: Source;
  /** Index of the message that owns it; -1 where the template does. */
  message: number;
  /** Whether the tokens of another owner end just before. */
  opens: boolean;
}

/** With more cells than this, each would be too small to point at. */
export const CELLS = 320;

/** The sources in prompt order: pages first, then what was loaded in the order it was chosen, then what was computed. */
export function runs(account: Pick<Account, "sources" | "choices">): Run[] {
  const { sources, choices = [] } = account;
  const loaded = choices.filter((choice) => choice.load).map(({ tier, tokens }): Run => ({ source: tier, tokens }));
  const sum = (source: Source) => loaded.reduce((all, run) => all + (run.source === source ? run.tokens : 0), 0);
  const between = SOURCES.filter((source) => source !== "gpu" && source !== "computed");
  const told = between.every((source) => sum(source) === sources[source]);
  const middle = told ? loaded : between.map((source): Run => ({ source, tokens: sources[source] }));
  const all: Run[] = [
    { source: "gpu", tokens: sources.gpu },
    ...middle,
    { source: "computed", tokens: sources.computed },
  ];
  return all.filter((run) => run.tokens > 0);
}

/** Cuts runs into cells of equal size, and at each change of source or message. `owned` may be unknown: then it is empty. */
export function cells(from: readonly Run[], owned: readonly Owned[], limit = CELLS): Cell[] {
  const total = from.reduce((all, run) => all + run.tokens, 0);
  const size = Math.max(1, Math.ceil(total / limit));
  const found: Cell[] = [];
  let [run, inRun, owner, inOwner] = [0, 0, 0, 0];
  for (let at = 0; at < total; ) {
    const source = from[run]!;
    const whose = owned[owner];
    const left = Math.min(source.tokens - inRun, whose ? whose.tokens - inOwner : Infinity);
    const tokens = Math.min(size, left);
    const opens = at > 0 && whose !== undefined && inOwner === 0;
    found.push({ from: at, tokens, source: source.source, message: whose?.message ?? -1, opens });
    at += tokens;
    if ((inRun += tokens) === source.tokens) [run, inRun] = [run + 1, 0];
    if (whose && (inOwner += tokens) === whose.tokens) [owner, inOwner] = [owner + 1, 0];
  }
  return found;
}

/** Which message owns each token, in runs. */
export function ownership(message: ArrayLike<number>): Owned[] {
  const found: Owned[] = [];
  for (let at = 0; at < message.length; at += 1) {
    const last = found.at(-1);
    if (last && last.message === message[at]) last.tokens += 1;
    else found.push({ message: message[at]!, tokens: 1 });
  }
  return found;
}
