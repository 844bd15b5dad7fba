import { useEffect, useRef } from "preact/hooks";
import { useApp } from "../state/app";
import type { Fault, Remedy } from "../state/faults";
import { SHORT_CONTEXT, type Source } from "../state/model";
import { Icon } from "./icons";

const LABELS: Record<Remedy, string> = {
  retry: "Try again",
  choose: "Choose another model",
  without_copy: "Open without keeping a copy",
  free_space: "Cache and space",
  smaller_context: `Open with ${SHORT_CONTEXT.toLocaleString("en")} tokens of context`,
  reload: "Reload the page",
  settings: "Settings",
  alone: "Close the current model and try again",
};

/** Why no model opened, what that means, and what to do. */
export function FaultPanel({ fault, source }: { fault: Fault; source: Source | null }) {
  const app = useApp();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    app.notices.say(`${fault.title}.`);
    if (document.activeElement === document.body) heading.current?.focus();
  }, [fault]);

  const mend = (remedy: Remedy) => {
    if (remedy === "reload") location.reload();
    else if (remedy === "settings" || remedy === "free_space") app.settingsOpen.value = true;
    else if (remedy === "choose") {
      app.model.cancel();
      app.choosing.value = true;
    } else if (!source) location.reload();
    else if (remedy === "alone") void app.model.close().then(() => app.model.open(source));
    else void app.model.open(source, { copy: remedy !== "without_copy", ...(remedy === "smaller_context" ? { context: SHORT_CONTEXT } : {}) });
  };
  // The GPU may have no room for a second model beside the current one. A person can also keep the current one.
  const ready = app.model.headstart !== null;
  const remedies: readonly Remedy[] = ready && fault.code === "out_of_memory" ? ["alone", ...fault.remedies] : fault.remedies;
  return (
    <section class="panel fault" aria-labelledby="fault-title">
      <h2 id="fault-title" tabIndex={-1} ref={heading}>
        <Icon name="warning" />
        {fault.title}
      </h2>
      <p>{fault.text}</p>
      <details>
        <summary>What was reported</summary>
        <p class="detail">
          <code>{fault.code}</code> {fault.detail}
        </p>
      </details>
      <div class="actions">
        {remedies.map((remedy, index) => (
          <button key={remedy} type="button" class={`button ${index === 0 ? "primary" : ""}`} onClick={() => mend(remedy)}>
            {LABELS[remedy]}
          </button>
        ))}
        {ready && (
          <button type="button" class="button" onClick={() => app.model.cancel()}>
            Keep the current model
          </button>
        )}
      </div>
    </section>
  );
}
