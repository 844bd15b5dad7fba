// Merges the changes of two tabs to one conversation since their common version, without losing a turn of either. Pure.

import { type Conversation, titleOf, type Turn } from "./conversation";

/**
 * `base` is what this tab last read or wrote, `mine` what it shows, `theirs` what is kept now. Where both say something else
 * of one turn or of the title, this tab's word counts; where both added turns in one place, the others' stand first.
 */
export function merge(base: Conversation | undefined, mine: Conversation, theirs: Conversation): Conversation {
  if (base && theirs.version === base.version) return mine;
  const turns = mergeTurns(base?.turns ?? [], mine.turns, theirs.turns);
  const { named, title } = mine.named !== base?.named || mine.title !== base?.title ? mine : theirs;
  const updated = Math.max(mine.updated, theirs.updated);
  return { ...theirs, turns, named, title: named ? title : titleOf(turns), updated };
}

function mergeTurns(base: readonly Turn[], mine: readonly Turn[], theirs: readonly Turn[]): Turn[] {
  const was = byId(base);
  const own = byId(mine);
  const found = theirs
    .filter(({ id }) => own.has(id) || !was.has(id))
    .map((turn) => {
      const here = own.get(turn.id);
      return here && here !== was.get(turn.id) ? here : turn;
    });
  const there = byId(theirs);
  for (const [index, turn] of mine.entries()) {
    if (was.has(turn.id) || there.has(turn.id)) continue;
    const before = mine[index - 1]?.id;
    let at = found.findIndex(({ id }) => id === before) + 1;
    while (found[at] && !own.has(found[at]!.id)) at += 1;
    found.splice(at, 0, turn);
  }
  return found;
}

const byId = (turns: readonly Turn[]): Map<string, Turn> => new Map(turns.map((turn) => [turn.id, turn]));
