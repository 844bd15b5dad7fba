// What the prefix cache holds on this machine, with ways to add packs, save packs and clear it.

import { useEffect, useId, useState } from "preact/hooks";
import { useApp } from "../state/app";
import { prompt, titleOf } from "../state/conversation";
import { faultOf } from "../state/faults";
import { size } from "../text/size";

/** Tokens of a page, and of an entry of the store. */
const PAGE = 16;

interface Held {
  label: string;
  value: string;
}

export function CacheSettings() {
  const app = useApp();
  const { settings, notices } = app;
  const headstart = app.model.headstart;
  const { cache } = settings.choices.value;
  const [held, setHeld] = useState<readonly Held[]>([]);
  const [id, file] = [useId(), useId()];
  const look = async () => setHeld(await whatIsHeld(headstart));
  useEffect(() => void look(), [headstart]);

  const clear = async () => {
    try {
      await headstart?.prefix.clear();
      notices.show({ text: "The cache is empty. The next prompts are computed from the start." });
      await look();
    } catch (thrown) {
      notices.show({ text: faultOf(thrown).title });
    }
  };
  const open = app.library.open.value;
  const save = async () => {
    if (!headstart || !open) return;
    try {
      const name = titleOf(open.turns);
      download(await headstart.prefix.export(prompt(settings.choices.value.system, open.turns), { name }), `${name}.safetensors`);
    } catch (thrown) {
      const { title, detail } = faultOf(thrown);
      notices.show({ text: `${title}: ${detail}` });
    }
  };
  return (
    <section>
      <h3>Prefix cache</h3>
      <div class="setting">
        <label for={id}>Reuse prompts that were read before</label>
        <input id={id} type="checkbox" role="switch" class="switch" checked={cache} onChange={(event) => settings.change({ cache: event.currentTarget.checked })} />
      </div>
      <p class="hint">
        The cache holds your conversations as numbers, on this machine only. Anyone who can use this browser could read them. Clear it on a shared computer.
      </p>
      {held.length > 0 && (
        <dl class="held">
          {held.map(({ label, value }) => (
            <div key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      )}
      <div class="actions">
        <button type="button" class="button" disabled={!headstart} onClick={() => void clear()}>
          Clear the cache
        </button>
        <label class={`button ${headstart ? "" : "disabled"}`} for={file}>
          Open a prefix pack
          <input
            id={file}
            type="file"
            class="visually-hidden"
            accept=".safetensors"
            disabled={!headstart}
            onChange={(event) => {
              const [pack] = event.currentTarget.files ?? [];
              if (pack) void app.takePack(pack).then(look);
            }}
          />
        </label>
        <button type="button" class="button" disabled={!headstart || !open} onClick={() => void save()}>
          Save this conversation as a pack
        </button>
      </div>
      {!headstart && <p class="hint">Open a model to see and change its cache.</p>}
    </section>
  );
}

async function whatIsHeld(headstart: ReturnType<typeof useApp>["model"]["headstart"]): Promise<Held[]> {
  const held: Held[] = [];
  const stats = await headstart?.prefix.stats().catch(() => undefined);
  if (stats) held.push({ label: "On the graphics card", value: `${(stats.pages.cached * PAGE).toLocaleString("en")} tokens` });
  if (stats?.store) held.push({ label: "On disk, kept over a reload", value: `${(stats.store.entries * PAGE).toLocaleString("en")} tokens, ${size(stats.store.bytes)}` });
  const space = await navigator.storage?.estimate?.().catch(() => undefined);
  if (space?.usage !== undefined) held.push({ label: "Disk space of this page, models included", value: `${size(space.usage)} of ${size(space.quota ?? 0)}` });
  return held;
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\p{L}\p{N} .-]/gu, "").slice(0, 80);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
