import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Conversation } from "../state/conversation";
import { IconButton } from "./icons";

export function ConversationItem({ conversation }: { conversation: Conversation }) {
  const app = useApp();
  const [naming, setNaming] = useState(false);
  const opener = useRef<HTMLButtonElement>(null);
  const { id, title } = conversation;
  const open = app.library.openId.value === id;
  const answering = app.chat.live.value?.conversation === id;
  const elsewhere = conversation.turns.some((turn) => app.tabs.others.value.has(`answer ${turn.id}`));

  const rename = (name: string | null) => {
    if (name !== null) app.library.rename(id, name);
    setNaming(false);
    requestAnimationFrame(() => opener.current?.focus());
  };
  const remove = () => {
    if (answering) app.chat.stop();
    app.library.remove(id);
    requestAnimationFrame(() => (document.querySelector<HTMLElement>(".conversation.open .opener") ?? document.getElementById("composer"))?.focus());
  };

  return (
    <li class={`conversation ${open ? "open" : ""}`}>
      {naming ? (
        <NameField title={title} onDone={rename} />
      ) : (
        <>
          <button
            type="button"
            class="opener"
            ref={opener}
            aria-current={open ? "true" : undefined}
            title={title}
            onClick={() => {
              app.library.select(id);
              app.sidebarOpen.value = false;
            }}
          >
            <span class="title">{title}</span>
            {(answering || elsewhere) && <span class="pulse" role="img" aria-label={answering ? "answering" : "another tab answers"} />}
          </button>
          <span class="tools">
            <IconButton icon="pencil" label={`Rename ${title}`} onClick={() => setNaming(true)} />
            <IconButton icon="trash" label={`Delete ${title}`} onClick={remove} />
          </span>
        </>
      )}
    </li>
  );
}

/** `onDone` gets the name, or null where the person thought better of it. */
function NameField({ title, onDone }: { title: string; onDone(name: string | null): void }) {
  const field = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (name: string | null) => {
    if (done.current) return;
    done.current = true;
    onDone(name);
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        finish(field.current?.value ?? null);
      }}
    >
      <input
        ref={field}
        class="field"
        aria-label="Name of the conversation"
        defaultValue={title}
        maxLength={120}
        onBlur={(event) => finish(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          finish(null);
        }}
      />
    </form>
  );
}
