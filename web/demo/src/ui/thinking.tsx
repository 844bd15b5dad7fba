// A model's thinking before its answer: open while it thinks, then folded to one line with its length.

import { useId, useState } from "preact/hooks";
import { words } from "../text/thinking";
import { Icon } from "./icons";
import { Markdown } from "./markdown";

export function Thinking({ text, live }: { text: string; live: boolean }) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const panel = useId();
  const open = chosen ?? live;
  const length = `${words(text).toLocaleString("en")} words`;
  return (
    <section class="thinking" aria-label="Thinking">
      <button type="button" class="quiet" aria-expanded={open} aria-controls={panel} onClick={() => setChosen(!open)}>
        <Icon name="chevron" />
        {live ? `Thinking, ${length} so far` : `Thought for ${length}`}
      </button>
      <div id={panel} hidden={!open}>
        {open && <Markdown text={text} growing={live} />}
      </div>
    </section>
  );
}
