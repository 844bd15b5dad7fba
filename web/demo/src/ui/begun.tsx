// Downloads that are on their way without this tab: one that was given up here, and those of other tabs.

import { clearWeights } from "headstart/worker";
import { useApp } from "../state/app";
import { faultOf } from "../state/faults";
import type { GivenUp } from "../state/model";
import { addressOf, isModel } from "../state/tabs";
import { absolute, fileName, isHubName } from "../text/name";
import { share, size } from "../text/size";

/** What has arrived of a download, and ways on. */
export function GivenUpDownload({ download, onResume }: { download: GivenUp; onResume(): void }) {
  const { model, notices } = useApp();
  const { source, progress } = download;
  const { loaded, total } = progress ?? { loaded: 0, total: 0 };
  const discard = async () => {
    try {
      await clearWeights(absolute(source.url));
      model.givenUp.value = null;
    } catch (thrown) {
      notices.show({ text: `${faultOf(thrown).title}.` });
    }
  };
  return (
    <section class="begun" aria-label="Download that was stopped">
      <p>
        <strong>{fileName(source.url)}</strong>
        <span class="muted numbers">{total > 0 ? share(loaded, total) : size(loaded)} are here</span>
      </p>
      {total > 0 && <progress class="bar" aria-label="What is here of it" value={loaded / total} max={1} />}
      <div class="actions">
        <button type="button" class="button primary" onClick={onResume}>
          Resume the download
        </button>
        {!isHubName(source.url) && (
          <button type="button" class="button" onClick={() => void discard()}>
            Discard it
          </button>
        )}
      </div>
    </section>
  );
}

/** Models that other tabs fetch, each with how far it is. */
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
        <progress class="bar" aria-label="How far the other tab is" {...(total > 0 ? { value: loaded / total, max: 1 } : {})} />
        <div class="actions">
          <button type="button" class="button" onClick={() => onOpen(url)}>
            Open it here too
          </button>
        </div>
      </section>
    );
  });
}
