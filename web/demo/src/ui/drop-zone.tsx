// Files dropped anywhere on the page: a model, or a prefix pack for the model that is open.

import { useEffect, useState } from "preact/hooks";
import { type App, useApp } from "../state/app";
import { faultOf } from "../state/faults";
import { Icon } from "./icons";

export function DropZone() {
  const app = useApp();
  const [over, setOver] = useState(false);
  useEffect(() => {
    const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const onOver = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const onLeave = (event: DragEvent) => event.relatedTarget === null && setOver(false);
    const onDrop = (event: DragEvent) => {
      setOver(false);
      if (!holdsFiles(event)) return;
      event.preventDefault();
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length > 0) take(app, files);
    };
    addEventListener("dragover", onOver);
    addEventListener("dragleave", onLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onOver);
      removeEventListener("dragleave", onLeave);
      removeEventListener("drop", onDrop);
    };
  }, []);
  if (!over) return null;
  return (
    <div class="drop-over" aria-hidden="true">
      <div>
        <Icon name="file" />
        {app.model.headstart ? "Drop a prefix pack, or another model" : "Drop the model to open it"}
      </div>
    </div>
  );
}

const isModel = (files: readonly File[]) => files.length > 1 || /\.gguf$/i.test(files[0]!.name);

function take(app: App, files: readonly File[]): void {
  const headstart = app.model.headstart;
  if (headstart && !isModel(files)) void importPack(app, files[0]!);
  else {
    app.settingsOpen.value = false;
    void app.model.open({ kind: "files", files });
  }
}

export async function importPack(app: App, file: Blob): Promise<void> {
  try {
    const pack = await app.model.headstart?.prefix.import(file);
    if (pack) app.notices.show({ text: `Took ${pack.tokens.toLocaleString("en")} tokens from the pack “${pack.name}”.` });
  } catch (thrown) {
    const { title, text } = faultOf(thrown);
    app.notices.show({ text: `${title}. ${text}` });
  }
}
