// The models that a person can open with a click: those that this browser keeps, and the host's list or else the package's.

import { Headstart, type KeptModel, listWeights } from "headstart/worker";
import type { ListedModel } from "headstart";
import { absolute } from "../text/name";

export interface Offer {
  name: string;
  url: string;
  about?: string;
  packs?: string[];
  /** Bytes of the file, where they are known. */
  bytes?: number;
  /** Bytes of a download that was stopped. */
  loaded?: number;
  /** Its entry in the package's list. */
  listed?: ListedModel;
  /** Whether its file is in this browser, whole or in part. */
  here: "kept" | "begun" | null;
}

interface Hosted {
  name: string;
  url: string;
  about?: string;
  packs?: string[];
}

export async function offers(): Promise<Offer[]> {
  const [hosted, weights] = await Promise.all([hostsOwn().catch(() => []), listWeights().catch(() => [])]);
  const known = new Map(weights.filter(({ name, source }) => /\.gguf$/i.test(name) || source.endsWith("/")).map((model) => [model.source, model]));
  const here = (url: string) => known.get(absolute(url));
  const offered = hosted.length > 0 ? hosted.map((entry) => offer(entry, here(entry.url))) : Headstart.models.map((listed) => ofList(listed, here(listed.url)));
  const addresses = new Set(offered.map(({ url }) => absolute(url)));
  const others = [...known.values()].filter(({ source }) => !addresses.has(source)).map((model) => offer({ name: model.name, url: model.source }, model));
  const all = [...others, ...offered];
  return (["kept", "begun", null] as const).flatMap((state) => all.filter(({ here }) => here === state));
}

function partOf(kept: KeptModel | undefined): Pick<Offer, "here" | "loaded"> {
  if (!kept) return { here: null };
  return kept.complete ? { here: "kept" } : { here: "begun", loaded: kept.loaded };
}

function offer(entry: Hosted, kept: KeptModel | undefined): Offer {
  return { ...entry, ...partOf(kept), ...(kept?.size !== undefined && { bytes: kept.size }) };
}

function ofList(listed: ListedModel, kept: KeptModel | undefined): Offer {
  return { name: listed.title, url: listed.url, listed, ...partOf(kept), ...(listed.bytes !== undefined && { bytes: listed.bytes }) };
}

async function hostsOwn(): Promise<Hosted[]> {
  const found: unknown = await (await fetch("./models.json")).json();
  if (!Array.isArray(found)) return [];
  return found.filter((entry): entry is Hosted => typeof entry?.name === "string" && typeof entry?.url === "string").slice(0, 50);
}
