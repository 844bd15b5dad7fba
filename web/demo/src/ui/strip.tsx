// A prompt as a row of cells, each marked by the source of its KV. The row is one stop for the keyboard, and arrow keys move over the
// tokens. A screen reader gets the same words as the tip shows.

import { useMemo, useRef, useState } from "preact/hooks";
import { type Cell, cells, runs } from "../cache/strip";
import { NAMES, ORIGINS } from "../cache/sources";
import { count, ownerName } from "../cache/words";
import { useApp } from "../state/app";
import { memo } from "./memo";
import { type Account, promptOf, type Turn } from "../state/conversation";

export const Strip = memo(function Strip({ account, before, marked }: { account: Account; before: readonly Turn[]; marked: number | null }) {
  const found = useMemo(() => cells(runs(account), account.owned), [account]);
  const [at, setAt] = useState<number | null>(null);
  const [rest, setRest] = useState(0);
  const pieces = usePieces(account, before);
  const box = useRef<HTMLDivElement>(null);

  const look = (index: number | null) => {
    setAt(index);
    if (index === null) return;
    setRest(index);
    void pieces.want();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 16, PageUp: -16, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape" && at !== null) {
      event.preventDefault();
      setAt(null);
    }
    if (step === undefined) return;
    event.preventDefault();
    look(Math.min(found.length - 1, Math.max(0, rest + step)));
  };
  const indexOf = (event: Event) => {
    const index = (event.target as HTMLElement).dataset.index;
    return index === undefined ? null : Number(index);
  };
  const words = (cell: Cell) => describe(cell, account, before, pieces.list);
  const current = found[at ?? rest];
  return (
    <div class="strip-place">
      <div
        class="strip"
        ref={box}
        role="slider"
        tabIndex={0}
        aria-label={`Tokens of the prompt, ${count(account.prompt_tokens)}`}
        aria-valuemin={1}
        aria-valuemax={account.prompt_tokens}
        aria-valuenow={current ? current.from + 1 : 1}
        aria-valuetext={current ? words(current).join(", ") : ""}
        onPointerOver={(event) => look(indexOf(event))}
        onPointerLeave={(event) => event.pointerType === "mouse" && setAt(null)}
        onClick={(event) => look(indexOf(event))}
        onFocus={(event) => event.currentTarget.matches(":focus-visible") && look(rest)}
        onBlur={() => setAt(null)}
        onKeyDown={onKeyDown}
      >
        {found.map((cell, index) => (
          <i
            key={index}
            data-index={index}
            class={`cell ${cell.source} ${cell.opens ? "opens" : ""} ${index === at ? "at" : ""} ${holds(cell, marked) ? "parts" : ""}`}
          />
        ))}
      </div>
      {at !== null && found[at] && box.current && <Tip box={box.current} index={at} words={words(found[at])} source={found[at].source} />}
    </div>
  );
});

const holds = (cell: Cell, token: number | null) => token !== null && cell.from <= token && token < cell.from + cell.tokens;

function Tip({ box, index, words, source }: { box: HTMLElement; index: number; words: string[]; source: Cell["source"] }) {
  const [text, ...more] = words;
  const cell = box.children[index] as HTMLElement | undefined;
  if (!cell) return null;
  const place = (tip: HTMLElement | null) => {
    if (!tip) return;
    const left = cell.offsetLeft + cell.offsetWidth / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(0, Math.min(left, box.offsetWidth - tip.offsetWidth))}px`;
  };
  return (
    <div class="tip" ref={place} aria-hidden="true">
      <code>{text}</code>
      <span>
        <span class={`cell ${source}`} />
        {more.join(" · ")}
      </span>
    </div>
  );
}

/** The text of a cell, the numbers of its tokens, their owner and their source. */
function describe(cell: Cell, account: Account, before: readonly Turn[], pieces: readonly string[] | null): string[] {
  const { from, tokens, source, message } = cell;
  const text = pieces ? pieces.slice(from, from + tokens).join("").replaceAll("\n", "↵") : "";
  const which = tokens === 1 ? `token ${from + 1} of ${account.prompt_tokens}` : `tokens ${from + 1}–${from + tokens} of ${account.prompt_tokens}`;
  const role = promptOf(account, before)[message]?.role;
  const whose = account.owned.length > 0 ? [ownerName(message, role, account.system.trim() !== "")] : [];
  return [text || (tokens === 1 ? `token ${from + 1}` : count(tokens)), which, ...whose, `${NAMES[source]}: ${ORIGINS[source]}`];
}

/** The text of the prompt's tokens. It is requested on first use, and works only while the open model tokenizes the prompt the same way. */
function usePieces(account: Account, before: readonly Turn[]) {
  const { model } = useApp();
  const [list, setList] = useState<readonly string[] | null>(null);
  const asked = useRef(false);
  const want = async () => {
    if (asked.current || !model.headstart) return;
    asked.current = true;
    try {
      const { pieces } = await model.headstart.renderPrompt(promptOf(account, before));
      if (pieces.length === account.prompt_tokens) setList(pieces);
    } catch {
      asked.current = false;
    }
  };
  return { list, want };
}
