// The open conversation. It follows the answer while it grows, until the reader scrolls away.

import { useEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Conversation } from "../state/conversation";
import { AnswerTurn } from "./answer-turn";
import { Icon } from "./icons";
import { QuestionTurn } from "./question-turn";

/** Pixels from the end that still count as being there. */
const NEAR = 48;

export function Transcript({ conversation }: { conversation: Conversation }) {
  const { chat } = useApp();
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [away, setAway] = useState(false);
  const live = chat.live.value?.conversation === conversation.id ? chat.live.value : null;

  const toEnd = () => box.current?.scrollTo({ top: box.current.scrollHeight });
  useEffect(() => {
    if (follows.current) toEnd();
  });
  useEffect(() => {
    const watch = new ResizeObserver(() => (follows.current ? toEnd() : onScroll()));
    watch.observe(box.current!.firstElementChild!);
    return () => watch.disconnect();
  }, []);
  // What a person sends is shown, wherever they were reading.
  useEffect(() => {
    if (!live) return;
    follows.current = true;
    toEnd();
  }, [live?.answer]);

  const onScroll = () => {
    const { scrollHeight, scrollTop, clientHeight } = box.current!;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAway(!follows.current);
  };
  return (
    <div class="transcript-place">
      <div class="transcript" ref={box} onScroll={onScroll} tabIndex={0} role="region" aria-label="Conversation">
        <ol class="turns">
          {conversation.turns.map((turn, index) =>
            turn.role === "user" ? (
              <QuestionTurn key={turn.id} question={turn} />
            ) : (
              <AnswerTurn
                key={turn.id}
                answer={turn}
                turns={conversation.turns}
                index={index}
                live={live?.answer === turn.id ? live : null}
              />
            ),
          )}
        </ol>
      </div>
      {away && (
        <button type="button" class="to-end" onClick={toEnd} aria-label="Go to the end of the conversation" title="Go to the end">
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}
