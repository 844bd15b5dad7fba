// A conversation that does not fit the model's context: what is too long, by how much, and ways to continue.

import { useApp } from "../state/app";
import { type Answer, type Overflow, readTurns, type Turn } from "../state/conversation";
import { count } from "../cache/words";
import { editButton, focusOn } from "./focus";

/** `before`: the turns before the answer. Only the last answer of a conversation offers ways to continue. */
export function TooLong({ answer, overflow, before, last }: { answer: Answer; overflow: Overflow; before: readonly Turn[]; last: boolean }) {
  const { chat, settingsOpen } = useApp();
  const { longest, leave, shorten } = overflow;
  const question = before.at(-1);
  const own = longest.turn === question?.id;
  const leaves = leave === null ? 0 : readTurns(before.slice(0, leave)).length;
  const make = (how: "withoutOldest" | "shortened") => {
    void chat.makeRoom(answer.id, how);
    focusOn();
  };
  const ready = chat.changeable.value;
  return (
    <div class="too-long" role="group" aria-label="Too long for the model">
      <p>
        <strong>{answer.end === "refused" ? "Too long to ask." : "The answer ended where the model’s context is full."}</strong> {tell(overflow, answer, before)}
      </p>
      {last && (
        <div class="actions">
          {leaves > 0 && (
            <button type="button" class="button primary" disabled={!ready} onClick={() => make("withoutOldest")}>
              {leaves === 1 ? "Leave out the oldest message" : `Leave out the ${leaves} oldest messages`}
            </button>
          )}
          {shorten && (
            <button type="button" class={`button ${leaves > 0 ? "" : "primary"}`} disabled={!ready} onClick={() => make("shortened")}>
              {own ? "Ask with the beginning of it" : "Shorten the longest message"}
            </button>
          )}
          {question && (own || (leaves === 0 && !shorten && longest.turn !== null)) && (
            <button type="button" class="button" disabled={!ready} onClick={() => document.getElementById(editButton(question.id))?.click()}>
              Edit the message
            </button>
          )}
          {longest.turn === null && (
            <button type="button" class="button" onClick={() => (settingsOpen.value = true)}>
              Change the system prompt
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function tell({ tokens, context, longest }: Overflow, { end }: Answer, before: readonly Turn[]): string {
  const reads = `The model reads at most ${count(context)} at a time, its answer included`;
  const long = before.find(({ id }) => id === longest.turn);
  const own = long !== undefined && long === before.at(-1);
  const which = own ? "Your message" : long ? `${long.role === "user" ? "Your message" : "The answer"} “${beginning(long.content)}”` : "The system prompt";
  const alone = long || longest.turn === null ? ` ${which} alone has ${count(longest.tokens)}.` : "";
  if (end !== "refused") return `${reads}. The prompt has ${count(tokens)}.${alone}`;
  return `${reads}, and this prompt has ${count(tokens)}: ${count(tokens + 1 - context)} too many.${alone}`;
}

function beginning(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 40 ? `${line.slice(0, 39).trimEnd()}…` : line;
}

/** Shown after the turns that prompts leave out. */
export function LeftOut({ turns }: { turns: readonly Turn[] }) {
  const { chat } = useApp();
  const number = turns.filter(({ content }) => content !== "").length;
  return (
    <li class="left-out">
      <span>{number === 1 ? "The model no longer reads the message above." : `The model no longer reads the ${number} messages above.`}</span>
      <button type="button" class="link" disabled={chat.live.value !== null} onClick={() => chat.readAgain(turns.map(({ id }) => id))}>
        {number === 1 ? "Read it again" : "Read them again"}
      </button>
    </li>
  );
}

/** Shown under a turn of which prompts contain only the beginning. */
export function ReadInPart({ turn }: { turn: Turn }) {
  const { chat } = useApp();
  if (!turn.read) return null;
  const part = Math.max(1, Math.round((turn.read * 100) / turn.content.length));
  return (
    <p class="read-in-part">
      <span>The model reads the first {part} % of this message.</span>
      <button type="button" class="link" disabled={chat.live.value !== null} onClick={() => chat.readAgain([turn.id])}>
        Read all of it
      </button>
    </p>
  );
}
