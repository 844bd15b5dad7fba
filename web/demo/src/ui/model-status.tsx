import { useApp } from "../state/app";
import { progressOf } from "./model-progress";

/** The foot of the sidebar: the open model and its GPU. */
export function ModelStatus() {
  const app = useApp();
  const phase = app.model.phase.value;
  const [state, name, detail] = (() => {
    switch (phase.name) {
      case "ready":
        return ["good", phase.headstart.model, `${phase.headstart.adapter.name || "WebGPU"} · ${phase.headstart.context.toLocaleString("en")} tokens of context`];
      case "loading":
        return ["busy", progressOf(phase).title, progressOf(phase).detail];
      case "failed":
        return ["bad", "No model", phase.fault.title];
      case "starting":
        return ["none", "", ""];
      default:
        return ["none", "No model", "Open one to begin"];
    }
  })();
  const choose = () => {
    app.choosing.value = true;
    app.sidebarOpen.value = false;
  };
  return (
    <div class="model-status">
      <span class={`lamp ${state}`} aria-hidden="true" />
      <div>
        <strong title={name}>{name}</strong>
        <span title={detail}>{detail}</span>
      </div>
      {phase.name === "ready" && (
        <p>
          <button type="button" class="quiet" title="Open another model. This one answers until then." onClick={choose}>
            Change
          </button>
          <button type="button" class="quiet" title="Close the model. The next visit does not open it." onClick={() => void app.model.forget()}>
            Close
          </button>
        </p>
      )}
    </div>
  );
}
