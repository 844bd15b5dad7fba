// What stands over the conversation while no model is ready: the choice of one, its progress, or what went wrong.

import { useApp } from "../state/app";
import type { Source } from "../state/model";
import { FaultPanel } from "./fault-panel";
import { ModelProgress } from "./model-progress";
import { OpenModel } from "./open-model";

export function sourceName(source: Source | null): string {
  if (!source) return "";
  if (source.kind === "url") return decodeURIComponent(source.url.split(/[?#]/)[0]!.split("/").at(-1)!) || source.url;
  return source.files.map((file) => file.name).join(", ");
}

export function ModelPanel() {
  const { model, library } = useApp();
  const phase = model.phase.value;
  if (phase.name === "ready" || phase.name === "starting" || !library.loaded.value) return null;
  const reading = library.open.value !== null;
  return (
    <div class={`model-place ${reading ? "over-reading" : ""}`}>
      {phase.name === "loading" && (
        <ModelProgress progress={phase.progress} name={sourceName(phase.source)} onCancel={() => void model.close()} />
      )}
      {phase.name === "failed" && <FaultPanel fault={phase.fault} source={phase.source} />}
      {phase.name === "absent" && <OpenModel />}
    </div>
  );
}
