// The models that the test double "keeps" in localStorage, each with its downloaded bytes.

import type { KeptModel } from "headstart";

const KEY = "double.weights";
export const BYTES = 98_362_432;

interface Kept extends KeptModel {
  loaded: number;
}

const read = (): Kept[] => JSON.parse(localStorage.getItem(KEY) ?? "[]");

export const listWeights = async (): Promise<KeptModel[]> => read();

export async function clearWeights(prefix: string | URL = ""): Promise<void> {
  localStorage.setItem(KEY, JSON.stringify(read().filter(({ source }) => !source.startsWith(String(prefix)))));
}

export const loadedOf = (source: string): number => read().find((kept) => kept.source === source)?.loaded ?? 0;

export function keepWeights(source: string, name: string, loaded: number): void {
  const others = read().filter((kept) => kept.source !== source);
  localStorage.setItem(KEY, JSON.stringify([...others, { source, name, size: BYTES, complete: loaded === BYTES, loaded }]));
}
