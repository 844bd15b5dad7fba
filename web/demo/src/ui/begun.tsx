// Downloads that do not go on in this tab: those that were stopped, and those of other tabs.

import { clearWeights } from "headstart/worker";
import { useApp } from "../state/app";
import { faultOf } from "../state/faults";
import { addressOf, isModel } from "../state/tabs";
import { absolute, fileName, isHubName } from "../text/name";
import { share, size } from "../text/size";

interface Stopped {
  name: string;
  url: string;
  /** Bytes that have arrived. */
  loaded: number;
  /** Bytes of the whole; 0 where that is not known. */
  total: number;
}

/** How much of a download is kept, and ways on. */
export function StoppedDownload({ download, onResume, onDiscarded }: { download: Stopped; onResume(): void; onDiscarded(): void }) {
  const { notices } = useApp();
  const { name, url, loaded, total } = download;
  const discard = async () => {
    try {
      await clearWeights(absolute(url));
      onDiscarded();
    } catch (thrown) {
      notices.show({ text: `${faultOf(thrown).title}.` });
    }
  };
  return (
    <section class="begun" aria-label={`Stopped download of ${name}`}>
      <p>
        <strong>{name}</strong>
        <span class="muted numbers">{total > 0 ? share(loaded, total) : size(loaded)} downloaded</span>
      </p>
      {total > 0 && <progress class="bar" aria-label={`Downloaded of ${name}`} value={loaded / total} max={1} />}
      <div class="actions">
        <button type="button" class="button primary" onClick={onResume}>
          Resume the download
        </button>
        {!isHubName(url) && (
          <button type="button" class="button" onClick={() => void discard()}>
            Discard it
          </button>
        )}
      </div>
    </section>
  );
}

/** Models that other tabs download, each with its progress. */
export function OtherDownloads({ onOpen }: { onOpen(url: string): void }) {
  const { others } = useApp().tabs;
  const found = [...others.value].filter(([doing, { progress }]) => isModel(doing) && progress?.stage === "download");
  return found.map(([doing, { progress }]) => {
    const url = addressOf(doing);
    const { loaded, total } = progress!;
    return (
      <section key={url} class="begun" aria-label="Download in another tab">
        <p>
          <strong>Another tab downloads {fileName(url)}</strong>
          <span class="muted numbers">{total > 0 ? share(loaded, total) : size(loaded)}</span>
        </p>
        <progress class="bar" aria-label="Progress of the other tab" {...(total > 0 ? { value: loaded / total, max: 1 } : {})} />
        <div class="actions">
          <button type="button" class="button" onClick={() => onOpen(url)}>
            Open it here too
          </button>
        </div>
      </section>
    );
  });
}
