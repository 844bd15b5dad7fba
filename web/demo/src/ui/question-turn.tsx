import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Question } from "../state/conversation";
import { CopyButton } from "./copy-button";
import { IconButton } from "./icons";
import { fit } from "./fit";
import { focusOn } from "./focus";
import { memo } from "./memo";

export const QuestionTurn = memo(function QuestionTurn({ question }: { question: Question }) {
  const app = useApp();
  const [editing, setEditing] = useState(false);
  const editButton = `edit-${question.id}`;
  const close = () => {
    setEditing(false);
    requestAnimationFrame(() => document.getElementById(editButton)?.focus());
  };
  const save = (text: string) => {
    setEditing(false);
    app.chat.edit(question.id, text);
    focusOn();
  };
  return (
    <li class="turn question">
      <h2 class="visually-hidden">You</h2>
      {editing ? (
        <Editor text={question.content} ready={app.chat.ready.value} onSave={save} onCancel={close} />
      ) : (
        <>
          <div class="said">{question.content}</div>
          <div class="tools">
            <CopyButton text={question.content} label="Copy your message" />
            <IconButton id={editButton} icon="pencil" label="Edit and ask again" disabled={!app.chat.ready.value} onClick={() => setEditing(true)} />
          </div>
        </>
      )}
    </li>
  );
});

function Editor(props: { text: string; ready: boolean; onSave(text: string): void; onCancel(): void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    fit(field.current!);
    field.current!.focus();
    field.current!.setSelectionRange(props.text.length, props.text.length);
  }, []);
  const save = () => field.current!.value.trim() && props.ready && props.onSave(field.current!.value);
  return (
    <div class="editor">
      <textarea
        ref={field}
        class="field"
        rows={1}
        aria-label="Edit your message"
        defaultValue={props.text}
        onInput={(event) => fit(event.currentTarget)}
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
        <button type="button" class="button primary" disabled={!props.ready} onClick={save}>
          Ask again
        </button>
      </div>
    </div>
  );
}
