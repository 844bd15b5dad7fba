import { useEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import { fit } from "./fit";
import { Icon } from "./icons";

/** Where a person writes. What is written stays while no model is ready or an answer is under way. */
export function Composer() {
  const { chat, library, model } = useApp();
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const answering = chat.live.value !== null;
  const phase = model.phase.value.name;

  useEffect(() => fit(field.current), [text]);
  useEffect(() => {
    if (phase === "ready" && document.activeElement === document.body) field.current?.focus();
  }, [phase, library.openId.value]);

  const send = () => {
    if (!chat.ready.value || !text.trim()) return;
    chat.send(text);
    setText("");
  };
  const stop = () => {
    chat.stop();
    field.current?.focus();
  };
  const usual = chat.elsewhere.value ? "Another tab answers here; what you send is asked after it." : "Enter sends, Shift and Enter begins a new line.";
  const hint = { starting: " ", ready: "", loading: "The model is on its way; you can write already.", absent: "Open a model to send.", failed: "No model is open." }[phase];
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
          onInput={(event) => setText(event.currentTarget.value)}
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
          <button key="send" type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={phase !== "ready" || !text.trim()}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p id="composer-hint" class="hint">
        {hint || (answering ? "Escape stops the answer." : usual)}
      </p>
    </form>
  );
}
