import { useMemo } from "preact/hooks";
import { useApp } from "../state/app";
import type { Answer, Turn } from "../state/conversation";
import type { Live } from "../state/chat";
import { endsModel } from "../state/faults";
import { parts } from "../text/thinking";
import { AccountPanel } from "./account-panel";
import { CopyButton } from "./copy-button";
import { focusOn } from "./focus";
import { IconButton } from "./icons";
import { Markdown } from "./markdown";
import { memo } from "./memo";
import { Thinking } from "./thinking";

const ENDS: Partial<Record<Answer["end"], string>> = {
  cancelled: "Stopped.",
  length: "Ended at the most tokens that the settings allow.",
  context: "The conversation fills the model’s context. Begin a new one, or edit an earlier message.",
};

function reading({ reading }: Live): string {
  if (!reading) return "Reading the prompt";
  return `Reading the prompt, ${reading.done.toLocaleString("en")} of ${reading.total.toLocaleString("en")} tokens`;
}

export const AnswerTurn = memo(function AnswerTurn(props: { answer: Answer; turns: readonly Turn[]; index: number; live: Live | null }) {
  const { answer, turns, index, live } = props;
  const before = useMemo(() => turns.slice(0, index), [turns, index]);
  const { chat } = useApp();
  const content = live?.content ?? answer.content;
  const { thinking, open, answer: said } = useMemo(() => parts(content), [content]);
  const end = live ? undefined : ENDS[answer.end];
  const again = () => {
    chat.regenerate(answer.id);
    focusOn();
  };
  const tools = (
    <div class="tools">
      {said && <CopyButton text={said} label="Copy the answer" />}
      <IconButton icon="again" label="Answer again" disabled={!chat.ready.value} onClick={again} />
    </div>
  );
  return (
    <li class="turn answer" aria-busy={live !== null}>
      <h2 class="visually-hidden">Answer</h2>
      {thinking && <Thinking text={thinking} live={open && live !== null} />}
      {said && <Markdown text={said} growing={live !== null} />}
      {live && !content && (
        <p class="waiting">
          <span class="pulse" aria-hidden="true" />
          {reading(live)}
        </p>
      )}
      {end && <p class="end">{end}</p>}
      {!live && answer.end === "failed" && (
        <div class="failed" role="alert">
          <strong>{answer.fault?.title ?? "The answer broke off"}.</strong>
          {answer.fault && !endsModel(answer.fault) && (
            <>
              {" "}
              {answer.fault.text}
              <code>{answer.fault.detail}</code>
            </>
          )}
        </div>
      )}
      {!live && (
        <div class="foot">
          {answer.account ? (
            <AccountPanel account={answer.account} before={before}>
              {tools}
            </AccountPanel>
          ) : (
            tools
          )}
        </div>
      )}
    </li>
  );
});
