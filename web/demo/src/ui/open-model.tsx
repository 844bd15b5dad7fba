// The first panel of the page: three ways to open a model.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import { useApp } from "../state/app";
import type { Source } from "../state/model";
import { absolute, fileName } from "../text/name";
import { addressOf, isModel } from "../state/tabs";
import { OtherDownloads, StoppedDownload } from "./begun";
import { focusOn } from "./focus";
import { Icon } from "./icons";
import { Offers } from "./offers";

export function OpenModel() {
  const app = useApp();
  const instead = app.model.headstart !== null;
  const givenUp = app.model.givenUp.value;
  const elsewhere = [...app.tabs.others.value.keys()].filter(isModel).map(addressOf);
  const stopped = givenUp?.progress?.loaded && !elsewhere.includes(absolute(givenUp.source.url)) ? givenUp : null;
  const shown = stopped ? [absolute(stopped.source.url), ...elsewhere] : elsewhere;
  const last = () => new URLSearchParams(location.search).get("model") ?? app.settings.choices.value.model ?? "";
  const [address, setAddress] = useState(() => givenUp?.source.url ?? (instead ? "" : last()));
  const field = useId();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (instead || givenUp) heading.current?.focus();
  }, [instead]);
  const open = (source: Source) => {
    app.choosing.value = false;
    void app.model.open(source);
  };
  const stay = () => {
    app.choosing.value = false;
    focusOn();
  };
  return (
    <section class="panel" aria-labelledby="open-title">
      <div class="panel-head">
        <h2 id="open-title" tabIndex={-1} ref={heading}>
          {instead ? "Open another model" : "Open a model"}
        </h2>
        {instead && (
          <button type="button" class="button" onClick={stay}>
            Keep the current model
          </button>
        )}
      </div>
      <p class="muted">
        {instead
          ? "The current model answers until the other one is ready."
          : "It runs in this page, on your graphics card. Nothing you write leaves this machine. This browser keeps the weights for your next visit."}
      </p>
      {stopped && (
        <StoppedDownload
          download={{ name: fileName(stopped.source.url), url: stopped.source.url, loaded: 0, total: 0, ...stopped.progress }}
          onResume={() => open(stopped.source)}
          onDiscarded={() => (app.model.givenUp.value = null)}
        />
      )}
      <OtherDownloads onOpen={(url) => open({ kind: "url", url })} />
      <Offers
        without={shown}
        when={shown.join(" ")}
        onChoose={({ url, packs }) => open({ kind: "url", url, ...(packs ? { packs } : {}) })}
      />
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (isAddress(address)) open({ kind: "url", url: address.trim() });
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
            event.currentTarget.value = "";
            if (files.length > 0) void app.take(files);
          }}
        />
      </label>
      <p class="hint">
        A model is one GGUF file. Choose several files together for all shards of a GGUF model, or for safetensors with config.json and tokenizer.json. Instead of an address, you
        can enter a name on the Hugging Face hub: owner/repo, or owner/repo:Q4_K_M.
      </p>
    </section>
  );
}

function isAddress(text: string): boolean {
  const address = text.trim();
  return address !== "" && URL.canParse(address, document.baseURI) && /^https?:$/.test(new URL(address, document.baseURI).protocol);
}
