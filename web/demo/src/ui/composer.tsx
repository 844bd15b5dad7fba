import { useEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import { fit } from "./fit";
import { Icon } from "./icons";

/** Where a person writes. The text stays while it cannot be sent, each conversation's its own. */
export function Composer() {
  const { chat, drafts, library, model, notices } = useApp();
  /** The text that Enter could not send. */
  const [refused, setRefused] = useState<string | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const place = library.openId.value;
  const text = drafts.of(place);
  const answering = chat.live.value !== null;
  const ready = chat.ready.value;
  const phase = model.phase.value.name;

  useEffect(() => fit(field.current), [text]);
  useEffect(() => {
    if (phase === "ready" && document.activeElement === document.body) field.current?.focus();
  }, [phase, place]);

  const hint = (() => {
    const stays = text.trim() ? " Your message stays here." : "";
    switch (phase) {
      case "starting":
        return " ";
      case "loading":
        return `The model is loading.${stays || " You can write already."}`;
      case "absent":
        return `Open a model to send.${stays}`;
      case "failed":
        return `No model is open.${stays}`;
      default:
        if (answering) return stays ? "Your message stays here. Enter sends it after the answer; Escape stops the answer." : "Escape stops the answer.";
        return chat.elsewhere.value ? "Another tab answers here; your message is asked after it." : "Enter sends, Shift+Enter starts a new line.";
    }
  })();
  // Events may come before another conversation is rendered, so they read the state themselves.
  const send = () => {
    const [place, text] = [library.openId.value, drafts.of(library.openId.value)];
    if (!text.trim()) return;
    if (!chat.ready.value) {
      setRefused(text);
      return notices.say(`Not sent. ${hint}`);
    }
    drafts.set(place, "");
    chat.send(text);
  };
  const stop = () => {
    chat.stop();
    field.current?.focus();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="composer-box">
        <textarea
          id="composer"
          ref={field}
          rows={1}
          aria-label="Message"
          aria-describedby="composer-hint"
          placeholder="Write a message"
          value={text}
          onInput={(event) => drafts.set(library.openId.value, event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        {answering ? (
          <button key="stop" type="button" class="send" aria-label="Stop" title="Stop (Escape)" onClick={stop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button key="send" type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!ready || !text.trim()}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p id="composer-hint" class={`hint ${!ready && refused === text ? "refused" : ""}`}>
        {hint}
      </p>
    </form>
  );
}
