// The open conversation. It follows a growing answer until the reader scrolls away.

import { Fragment } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Conversation } from "../state/conversation";
import { AnswerTurn } from "./answer-turn";
import { Icon } from "./icons";
import { QuestionTurn } from "./question-turn";
import { LeftOut } from "./too-long";

/** A distance in pixels from the end that still counts as the end. */
const NEAR = 48;

export function Transcript({ conversation }: { conversation: Conversation }) {
  const { chat, tabs } = useApp();
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  const top = useRef(0);
  const [away, setAway] = useState(false);
  const live = chat.live.value?.conversation === conversation.id ? chat.live.value : null;

  const toEnd = () => box.current?.scrollTo({ top: box.current.scrollHeight });
  // A browser reports scrolling in its next frame. By then the conversation may be gone or longer, which is not scrolling away.
  const look = () => {
    if (!box.current) return;
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR || (follows.current && scrollTop >= top.current);
    top.current = scrollTop;
    setAway(!follows.current);
  };
  useEffect(() => {
    if (follows.current) toEnd();
  });
  useEffect(() => {
    const watch = new ResizeObserver(() => (follows.current ? toEnd() : look()));
    for (const { current } of [box, list]) if (current) watch.observe(current);
    return () => watch.disconnect();
  }, []);
  // A new question is scrolled into view, wherever the person was reading.
  useEffect(() => {
    if (!live) return;
    follows.current = true;
    toEnd();
  }, [live?.answer]);

  const { turns } = conversation;
  const leftOut = (index: number) => turns[index]?.read === 0;
  const firstOf = (index: number): number => (leftOut(index - 1) ? firstOf(index - 1) : index);
  return (
    <div class="transcript-place">
      <div class="transcript" ref={box} onScroll={look} tabIndex={0} role="region" aria-label="Conversation">
        <ol class="turns" ref={list}>
          {turns.map((turn, index) => (
            <Fragment key={turn.id}>
              {turn.role === "user" ? (
                <QuestionTurn question={turn} />
              ) : (
                <AnswerTurn
                  answer={turn}
                  turns={turns}
                  index={index}
                  live={live?.answer === turn.id ? live : null}
                  elsewhere={tabs.others.value.has(`answer ${turn.id}`)}
                />
              )}
              {leftOut(index) && !leftOut(index + 1) && <LeftOut turns={turns.slice(firstOf(index), index + 1)} />}
            </Fragment>
          ))}
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
