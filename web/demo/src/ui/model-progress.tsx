// Download, upload and compile, each with its own measure.

import type { Progress } from "headstart";

const STAGES = {
  download: "Downloading the model",
  upload: "Moving weights to the graphics card",
  compile: "Preparing the graphics card’s programs",
} as const;

const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(bytes < 100 * 2 ** 20 ? 1 : 0);

export function progressOf(progress: Progress | null): { title: string; detail: string; share: number | null } {
  if (!progress) return { title: "Opening the model", detail: "", share: null };
  const { stage, loaded, total } = progress;
  const share = total > 0 ? Math.min(1, loaded / total) : null;
  if (stage === "compile") return { title: STAGES.compile, detail: total > 0 ? `${loaded} of ${total}` : "", share };
  const detail = total > 0 ? `${mib(loaded)} of ${mib(total)} MiB` : `${mib(loaded)} MiB`;
  return { title: STAGES[stage], detail, share };
}

export function ModelProgress({ progress, name, onCancel }: { progress: Progress | null; name: string; onCancel(): void }) {
  const { title, detail, share } = progressOf(progress);
  const reached = progress ? ["download", "upload", "compile"].indexOf(progress.stage) : -1;
  return (
    <section class="panel" aria-labelledby="progress-title">
      <h2 id="progress-title">{title}</h2>
      <p class="muted ellipsis" title={name}>
        {name}
      </p>
      <progress class="bar" aria-labelledby="progress-title" {...(share === null ? {} : { value: share, max: 1 })} />
      <div class="progress-foot">
        <ol class="stages" aria-label="Steps">
          {(["Download", "Upload", "Compile"] as const).map((step, index) => (
            <li key={step} class={index < reached ? "done" : index === reached ? "now" : ""} aria-current={index === reached ? "step" : undefined}>
              {step}
            </li>
          ))}
        </ol>
        <span class="muted numbers">{detail}</span>
        <button type="button" class="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </section>
  );
}
