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
  const { drafts } = app;
  const [editing, setEditing] = useState(drafts.of(question.id) !== "");
  const button = editButton(question.id);
  const close = () => {
    setEditing(false);
    drafts.set(question.id, "");
    requestAnimationFrame(() => document.getElementById(button)?.focus());
  };
  const save = (text: string) => {
    setEditing(false);
    drafts.set(question.id, "");
    app.chat.edit(question.id, text);
    focusOn();
  };
  return (
    <li class={`turn question ${question.read === 0 ? "unread" : ""}`}>
      <h2 class="visually-hidden">You</h2>
      {editing ? (
        <Editor question={question} ready={app.chat.changeable.value} onSave={save} onCancel={close} />
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

function Editor(props: { question: Question; ready: boolean; onSave(text: string): void; onCancel(): void }) {
  const { drafts } = useApp();
  const { id, content } = props.question;
  const [text, setText] = useState(drafts.of(id) || content);
  const field = useRef<HTMLTextAreaElement>(null);
  const write = (text: string) => {
    setText(text);
    drafts.set(id, text === content ? "" : text);
  };
  useLayoutEffect(() => {
    // One that a reload or another conversation interrupted takes no focus.
    if (drafts.of(id)) return;
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
        onInput={(event) => write(event.currentTarget.value)}
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
