// The models that the stand-in "keeps", in localStorage.

import type { KeptModel } from "headstart";

const KEY = "double.weights";
const BYTES = 98_362_432;

export const listWeights = async (): Promise<KeptModel[]> => JSON.parse(localStorage.getItem(KEY) ?? "[]");

export async function clearWeights(prefix: string | URL = ""): Promise<void> {
  const kept = (await listWeights()).filter(({ source }) => !source.startsWith(String(prefix)));
  localStorage.setItem(KEY, JSON.stringify(kept));
}

export async function keepWeights(source: string, name: string): Promise<void> {
  const others = (await listWeights()).filter((kept) => kept.source !== source);
  localStorage.setItem(KEY, JSON.stringify([...others, { source, name, size: BYTES, complete: true }]));
}
