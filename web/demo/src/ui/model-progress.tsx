// The progress of download, upload and compilation.

import type { Progress } from "headstart";
import { useEffect, useState } from "preact/hooks";
import { useApp } from "../state/app";
import { type Loading, modelAt } from "../state/model";
import { timeLeft } from "../state/pace";
import { share, size } from "../text/size";
import { sourceName } from "./model-panel";

const STAGES = {
  download: "Downloading the model",
  upload: "Moving weights to the graphics card",
  compile: "Preparing the graphics card’s programs",
} as const;

/** After this time without a byte the server counts as slow. */
const QUIET_MS = 5000;

export function progressOf({ progress, kept }: Pick<Loading, "progress" | "kept">): { title: string; detail: string; part: number | null } {
  if (!progress) return { title: "Opening the model", detail: "", part: null };
  const { stage, loaded, total } = progress;
  const part = total > 0 ? Math.min(1, loaded / total) : null;
  const title = stage === "download" && kept ? "Reading the model from this browser" : STAGES[stage];
  if (stage === "compile") return { title, detail: total > 0 ? `${loaded} of ${total}` : "", part };
  return { title, detail: total > 0 ? share(loaded, total) : size(loaded), part };
}

export function ModelProgress({ loading }: { loading: Loading }) {
  const { model, notices, tabs } = useApp();
  const { source } = loading;
  const name = sourceName(source);
  // One tab downloads a file while the others wait.
  const other = source.kind === "url" && (loading.progress?.stage ?? "download") === "download" ? tabs.others.value.get(modelAt(source.url)) : undefined;
  const downloads = other?.progress?.stage === "download" && other.progress.loaded >= (loading.progress?.loaded ?? 0) ? other.progress : null;
  const { title, detail, part } = downloads ? { ...progressOf({ progress: downloads, kept: false }), title: "Another tab downloads this model" } : progressOf(loading);
  const progress = downloads ?? loading.progress;
  const pace = downloads ? (other?.pace ?? null) : loading.pace;
  const cancel = () => {
    model.cancel();
    if (model.headstart && model.givenUp.value?.progress?.loaded)
      notices.show({ text: "The download is stopped. This browser keeps what has arrived.", action: { label: "Resume", run: () => void model.open(source) } });
  };
  const reached = progress ? ["download", "upload", "compile"].indexOf(progress.stage) : -1;
  return (
    <section class="panel" aria-labelledby="progress-title">
      <h2 id="progress-title">{title}</h2>
      <p class="muted ellipsis" title={name}>
        {name}
      </p>
      <progress class="bar" aria-labelledby="progress-title" {...(part === null ? {} : { value: part, max: 1 })} />
      <div class="progress-foot">
        <ol class="stages" aria-label="Steps">
          {([loading.kept ? "Read" : "Download", "Upload", "Compile"] as const).map((step, index) => (
            <li key={step} class={index < reached ? "done" : index === reached ? "now" : ""} aria-current={index === reached ? "step" : undefined}>
              {step}
            </li>
          ))}
        </ol>
        <p class="muted numbers">
          {detail}
          {progress?.stage === "download" && !loading.kept && <Speed progress={progress} pace={pace} />}
        </p>
        <button type="button" class="button" onClick={cancel}>
          Cancel
        </button>
      </div>
      {downloads && <p class="hint">This tab opens the model after the download.</p>}
    </section>
  );
}

/** The speed and the time left, or that no bytes arrive. */
function Speed({ progress, pace }: { progress: Progress; pace: number | null }) {
  const [quiet, setQuiet] = useState(false);
  const { loaded, total } = progress;
  useEffect(() => {
    setQuiet(false);
    const timer = setTimeout(() => setQuiet(true), QUIET_MS);
    return () => clearTimeout(timer);
  }, [loaded]);
  if (total > 0 && loaded >= total) return null;
  if (quiet) return <> · waiting for the server</>;
  if (pace === null) return null;
  const left = total > 0 ? timeLeft(total - loaded, pace) : null;
  return (
    <>
      {" · "}
      {size(pace)}/s{left && ` · ${left}`}
    </>
  );
}
