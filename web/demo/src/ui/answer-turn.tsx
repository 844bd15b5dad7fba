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
import { ReadInPart, TooLong } from "./too-long";

const ENDS: Partial<Record<Answer["end"], string>> = {
  cancelled: "Stopped.",
  length: "Ended at the maximum number of tokens in the settings.",
};

function waiting({ waits, reading }: Live): string {
  if (waits) return "Waiting until another tab has its answer";
  if (!reading) return "Reading the prompt";
  return `Reading the prompt, ${reading.done.toLocaleString("en")} of ${reading.total.toLocaleString("en")} tokens`;
}

interface Props {
  answer: Answer;
  turns: readonly Turn[];
  index: number;
  /** Where this tab writes it. */
  live: Live | null;
  /** Whether another tab writes it. */
  elsewhere: boolean;
}

export const AnswerTurn = memo(function AnswerTurn({ answer, turns, index, live, elsewhere }: Props) {
  const before = useMemo(() => turns.slice(0, index), [turns, index]);
  const { chat } = useApp();
  const content = live?.content ?? answer.content;
  const grows = live !== null || elsewhere;
  const { thinking, open, answer: said } = useMemo(() => parts(content), [content]);
  const end = grows ? undefined : ENDS[answer.end];
  const again = () => {
    chat.regenerate(answer.id);
    focusOn();
  };
  const tools = (
    <div class="tools">
      {said && <CopyButton text={said} label="Copy the answer" />}
      <IconButton icon="again" label="Answer again" disabled={!chat.changeable.value} onClick={again} />
    </div>
  );
  return (
    <li class={`turn answer ${answer.read === 0 ? "unread" : ""}`} aria-busy={grows}>
      <h2 class="visually-hidden">Answer</h2>
      {thinking && <Thinking text={thinking} live={open && grows} />}
      {said && <Markdown text={said} growing={grows} />}
      {grows && (elsewhere || !content) && (
        <p class="waiting">
          <span class="pulse" aria-hidden="true" />
          {live ? waiting(live) : "Another tab writes this answer"}
        </p>
      )}
      {end && <p class="end">{end}</p>}
      {!grows && answer.overflow && <TooLong answer={answer} overflow={answer.overflow} before={before} last={index === turns.length - 1} />}
      {!grows && answer.end === "failed" && (
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
      <ReadInPart turn={answer} />
      {!grows && (
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
