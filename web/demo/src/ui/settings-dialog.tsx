import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { useApp } from "../state/app";
import { DEFAULTS, type Theme } from "../state/settings";
import { CacheSettings } from "./cache-settings";
import { IconButton } from "./icons";
import { ModelSettings } from "./model-settings";

export function SettingsDialog() {
  const app = useApp();
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const open = app.settingsOpen.value;
  // At once and not in the next frame: closing moves the focus back, which would interrupt a person who goes on writing.
  useLayoutEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const close = () => (app.settingsOpen.value = false);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={title} onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      {open && (
        <div class="dialog-body">
          <header>
            <h2 id={title}>Settings</h2>
            <IconButton icon="close" label="Close settings" onClick={close} />
          </header>
          <AnswerSettings />
          <CacheSettings />
          <ModelSettings />
          <Appearance />
        </div>
      )}
    </dialog>
  );
}

function AnswerSettings() {
  const { settings } = useApp();
  const { system, temperature, maxTokens } = settings.choices.value;
  const [systemId, temperatureId, lengthId] = [useId(), useId(), useId()];
  return (
    <section>
      <h3>Answers</h3>
      <div class="setting stacked">
        <label for={systemId}>System prompt</label>
        <textarea
          id={systemId}
          class="field"
          rows={4}
          value={system}
          placeholder="None"
          aria-describedby={`${systemId}-hint`}
          onInput={(event) => settings.change({ system: event.currentTarget.value })}
        />
        <p class="hint" id={`${systemId}-hint`}>
          Every prompt begins with it. After a change, the cache of earlier conversations no longer fits; they are computed again once.
        </p>
      </div>
      <div class="setting">
        <label for={temperatureId}>Temperature</label>
        <input
          id={temperatureId}
          type="range"
          min="0"
          max="2"
          step="0.1"
          value={temperature}
          onInput={(event) => settings.change({ temperature: event.currentTarget.valueAsNumber })}
        />
        <output for={temperatureId} class="numbers">
          {temperature === 0 ? "0, always the most likely" : temperature.toFixed(1)}
        </output>
      </div>
      <div class="setting">
        <label for={lengthId}>Maximum tokens in an answer</label>
        <input
          id={lengthId}
          class="field short"
          type="number"
          min="1"
          max="32768"
          step="1"
          value={maxTokens}
          onChange={(event) => settings.change({ maxTokens: event.currentTarget.valueAsNumber || DEFAULTS.maxTokens })}
        />
      </div>
    </section>
  );
}

const THEMES: [Theme, string][] = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

function Appearance() {
  const { settings } = useApp();
  const chosen = settings.choices.value.theme;
  return (
    <section>
      <h3>Appearance</h3>
      <fieldset class="choices">
        <legend class="visually-hidden">Theme</legend>
        {THEMES.map(([theme, name]) => (
          <label key={theme}>
            <input type="radio" name="theme" checked={chosen === theme} onChange={() => settings.change({ theme })} />
            {name}
          </label>
        ))}
      </fieldset>
    </section>
  );
}
