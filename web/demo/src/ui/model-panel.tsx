// The panel above the conversation while no model is ready, or while another one is chosen: the choice, the progress, or the error.

import { useApp } from "../state/app";
import type { Source } from "../state/model";
import { fileName } from "../text/name";
import { FaultPanel } from "./fault-panel";
import { ModelProgress } from "./model-progress";
import { OpenModel } from "./open-model";

export function sourceName(source: Source | null): string {
  if (!source) return "";
  return source.kind === "url" ? fileName(source.url) : source.files.map((file) => file.name).join(", ");
}

export function ModelPanel() {
  const { choosing, library, model } = useApp();
  const phase = model.phase.value;
  const shown = phase.name === "ready" ? (model.next.value ?? (choosing.value ? { name: "absent" as const } : phase)) : phase;
  if (shown.name === "ready" || shown.name === "starting" || !library.loaded.value) return null;
  const beside = phase.name === "ready" || library.open.value !== null;
  return (
    <div class={`model-place ${beside ? "over-reading" : ""}`}>
      {shown.name === "loading" && <ModelProgress loading={shown} />}
      {shown.name === "failed" && <FaultPanel fault={shown.fault} source={shown.source} />}
      {shown.name === "absent" && <OpenModel />}
    </div>
  );
}
