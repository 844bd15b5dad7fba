// The first thing a person sees: three ways to open a model. What the host offers is read from models.json beside the page.

import { useEffect, useId, useState } from "preact/hooks";
import { listWeights } from "headstart/worker";
import { useApp } from "../state/app";
import { Icon } from "./icons";
import { size } from "./size";

interface Offered {
  name: string;
  url: string;
  about?: string;
  packs?: string[];
}

export function OpenModel() {
  const app = useApp();
  const [offered, setOffered] = useState<readonly Offered[]>([]);
  const [address, setAddress] = useState(() => new URLSearchParams(location.search).get("model") ?? app.settings.choices.value.model ?? "");
  const field = useId();

  useEffect(() => {
    let gone = false;
    void offers().then((found) => !gone && setOffered(found));
    return () => {
      gone = true;
    };
  }, []);

  return (
    <section class="panel" aria-labelledby="open-title">
      <h2 id="open-title">Open a model</h2>
      <p class="muted">
        It runs in this page, on your graphics card. Nothing you write leaves this machine, and the weights are kept in this browser for the next visit.
      </p>
      {offered.length > 0 && (
        <ul class="offers">
          {offered.map(({ name, url, about, packs }) => (
            <li key={url}>
              <button type="button" class="offer" onClick={() => void app.model.open({ kind: "url", url, ...(packs ? { packs } : {}) })}>
                <strong>{name}</strong>
                {about && <span>{about}</span>}
              </button>
            </li>
          ))}
        </ul>
      )}
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (isAddress(address)) void app.model.open({ kind: "url", url: address.trim() });
        }}
      >
        <label for={field} class="visually-hidden">
          Address of a GGUF file
        </label>
        <input
          id={field}
          class="field"
          type="text"
          inputMode="url"
          autoComplete="url"
          spellcheck={false}
          placeholder="Address of a GGUF file"
          value={address}
          onInput={(event) => setAddress(event.currentTarget.value)}
        />
        <button type="submit" class="button" disabled={!isAddress(address)}>
          Download
        </button>
      </form>
      <label class="drop-here">
        <Icon name="file" />
        <span>
          <span class="button-look">Choose a file</span> or drop it anywhere on this page
        </span>
        <input
          type="file"
          class="visually-hidden"
          multiple
          accept=".gguf,.safetensors,.json"
          aria-label="Choose a model file"
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            if (files.length > 0) void app.model.open({ kind: "files", files });
          }}
        />
      </label>
      <p class="hint">One GGUF file, or safetensors with config.json and tokenizer.json chosen together.</p>
    </section>
  );
}

function isAddress(text: string): boolean {
  const address = text.trim();
  return address !== "" && URL.canParse(address, document.baseURI) && /^https?:$/.test(new URL(address, document.baseURI).protocol);
}

/** What the host offers and what is here already, one entry an address. */
async function offers(): Promise<Offered[]> {
  const [listed, kept] = await Promise.all([hosted().catch(() => []), listWeights().catch(() => [])]);
  const whole = kept.filter(({ complete, name }) => complete && /\.gguf$/i.test(name));
  const here = new Map(whole.map((model) => [model.source, model]));
  const about = (bytes: number | undefined) => `Kept in this browser${bytes === undefined ? "" : `, ${size(bytes)}`}`;
  const offered = listed.map((entry) => {
    const found = here.get(new URL(entry.url, document.baseURI).href);
    if (found) here.delete(found.source);
    return found ? { ...entry, about: about(found.size) } : entry;
  });
  return [...[...here.values()].map((model) => ({ name: model.name, url: model.source, about: about(model.size) })), ...offered];
}

async function hosted(): Promise<Offered[]> {
  const found: unknown = await (await fetch("./models.json")).json();
  if (!Array.isArray(found)) return [];
  return found.filter((entry): entry is Offered => typeof entry?.name === "string" && typeof entry?.url === "string").slice(0, 12);
}
