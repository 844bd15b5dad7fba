// The models to choose from, each with the memory that it needs on this device.

import { useEffect, useState } from "preact/hooks";
import { device, type Device } from "../models/device";
import { fit } from "../models/fit";
import { type Offer, offers } from "../models/offers";
import { absolute } from "../text/name";
import { size } from "../text/size";
import { StoppedDownload } from "./begun";

/** A button shows the rest. */
const FIRST = 4;

const LICENSES: Record<string, string> = { "apache-2.0": "Apache 2.0", mit: "MIT", gemma: "Gemma licence", "lfm1.0": "LFM licence", "llama3.2": "Llama 3.2 licence" };
const CHECKED = { run: "tested", "base run": "base model tested", "not run": "untested" } as const;

/** `without`: addresses that are shown elsewhere. The list is read again when `when` changes. */
export function Offers({ onChoose, without, when }: { onChoose(offer: Offer): void; without: readonly string[]; when: unknown }) {
  const [found, setFound] = useState<readonly Offer[]>([]);
  const [here, setHere] = useState<Device>({});
  const [all, setAll] = useState(false);
  const [discarded, setDiscarded] = useState(0);
  useEffect(() => {
    let gone = false;
    void offers().then((found) => !gone && setFound(found));
    void device().then((here) => !gone && setHere(here));
    return () => {
      gone = true;
    };
  }, [when, discarded]);
  const offered = found.filter(({ url }) => !without.includes(absolute(url)));
  if (offered.length === 0) return null;
  const begun = offered.filter(({ here }) => here === "begun");
  const others = offered.filter((offer) => !begun.includes(offer));
  const shown = all ? others : others.slice(0, FIRST);
  return (
    <>
      {begun.map((offer) => (
        <StoppedDownload
          key={offer.url}
          download={{ name: offer.name, url: offer.url, loaded: offer.loaded ?? 0, total: offer.bytes ?? 0 }}
          onResume={() => onChoose(offer)}
          onDiscarded={() => setDiscarded(discarded + 1)}
        />
      ))}
      <ul class="offers">
        {shown.map((offer) => (
          <li key={offer.url}>
            <OfferButton offer={offer} here={here} onChoose={onChoose} />
          </li>
        ))}
      </ul>
      {others.length > shown.length && (
        <button type="button" class="quiet more" onClick={() => setAll(true)}>
          Show all {others.length} models
        </button>
      )}
    </>
  );
}

function OfferButton({ offer, here, onChoose }: { offer: Offer; here: Device; onChoose(offer: Offer): void }) {
  const { name, about, bytes, listed } = offer;
  const verdict = listed && fit(listed, here, offer.here === "kept");
  const facts = [
    offer.here === "kept" ? "Kept in this browser" : "",
    listed ? (LICENSES[listed.license] ?? listed.license) : "",
    listed ? CHECKED[listed.checked] : "",
    bytes === undefined ? "" : size(bytes),
  ];
  return (
    <button type="button" class={`offer ${verdict?.level ?? ""}`} onClick={() => onChoose(offer)}>
      <strong>{name}</strong> <span class="facts">{facts.filter(Boolean).join(" · ")}</span>{" "}
      {verdict ? <span class="verdict">{verdict.text}</span> : about && <span class="verdict">{about}</span>}
    </button>
  );
}
