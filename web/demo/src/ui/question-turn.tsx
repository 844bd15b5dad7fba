import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Question } from "../state/conversation";
import { CopyButton } from "./copy-button";
import { IconButton } from "./icons";
import { fit } from "./fit";
import { editButton, focusOn } from "./focus";
import { memo } from "./memo";
import { ReadInPart } from "./too-long";

export const QuestionTurn = memo(function QuestionTurn({ question }: { question: Question }) {
  const app = useApp();
  const [editing, setEditing] = useState(false);
  const button = editButton(question.id);
  const close = () => {
    setEditing(false);
    requestAnimationFrame(() => document.getElementById(button)?.focus());
  };
  const save = (text: string) => {
    setEditing(false);
    app.chat.edit(question.id, text);
    focusOn();
  };
  return (
    <li class={`turn question ${question.read === 0 ? "unread" : ""}`}>
      <h2 class="visually-hidden">You</h2>
      {editing ? (
        <Editor text={question.content} ready={app.chat.changeable.value} onSave={save} onCancel={close} />
      ) : (
        <>
          <Said text={question.content} />
          <div class="tools">
            <CopyButton text={question.content} label="Copy your message" />
            <IconButton id={button} icon="pencil" label="Edit and ask again" disabled={!app.chat.changeable.value} onClick={() => setEditing(true)} />
          </div>
          <ReadInPart turn={question} />
        </>
      )}
    </li>
  );
});

/** More than these are folded, so that the answer is in sight. */
const [CHARACTERS, LINES] = [2000, 30];

function Said({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const isLong = text.length > CHARACTERS || text.split("\n", LINES + 1).length > LINES;
  return (
    <div class={`said ${isLong && !whole ? "folded" : ""}`}>
      {text}
      {isLong && (
        <button type="button" class="quiet" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? "Show less" : "Show all of it"}
        </button>
      )}
    </div>
  );
}

function Editor(props: { text: string; ready: boolean; onSave(text: string): void; onCancel(): void }) {
  const [text, setText] = useState(props.text);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  useLayoutEffect(() => fit(field.current), [text]);
  const save = () => text.trim() && props.ready && props.onSave(text);
  return (
    <div class="editor">
      <textarea
        ref={field}
        class="field"
        rows={1}
        aria-label="Edit your message"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.preventDefault();
            props.onCancel();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            save();
          }
        }}
      />
      <div class="actions">
        <button type="button" class="button" onClick={props.onCancel}>
          Cancel
        </button>
        <button type="button" class="button primary" disabled={!props.ready || !text.trim()} onClick={save}>
          Ask again
        </button>
      </div>
    </div>
  );
}
