/**
 * Authenticates the KV that this origin stored: HMAC-SHA-256 under a key that is created at first use and cannot be exported, not even
 * by this code.
 */

import { done } from "../disk/indexeddb.js";

/** The MAC of a message: 32 bytes. */
export type Sign = (message: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>;

const DATABASE = "headstart-key";
const KEYS = "keys";
const NAME = "kv";
const HMAC = { name: "HMAC", hash: "SHA-256" };

export async function signKey(secret: Uint8Array<ArrayBuffer>): Promise<Sign> {
  return signer(await crypto.subtle.importKey("raw", secret, HMAC, false, ["sign"]));
}

/** Signs with the key of this origin, which IndexedDB keeps. Without IndexedDB it signs with a key of this page alone. */
export async function signOrigin(): Promise<Sign> {
  const fresh = (await crypto.subtle.generateKey(HMAC, false, ["sign"])) as CryptoKey;
  return signer(await keep(fresh).catch(() => fresh));
}

function signer(key: CryptoKey): Sign {
  return async (message) => new Uint8Array(await crypto.subtle.sign("HMAC", key, message));
}

/** The kept key. If two tabs bring a key at the same time, both get the first one. */
async function keep(fresh: CryptoKey): Promise<CryptoKey> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(KEYS);
  const database = await done(opening);
  try {
    const keys = database.transaction(KEYS, "readwrite").objectStore(KEYS);
    const kept: unknown = await done(keys.get(NAME));
    if (kept instanceof CryptoKey && kept.algorithm.name === HMAC.name && kept.usages.includes("sign")) return kept;
    await done(keys.put(fresh, NAME));
    return fresh;
  } finally {
    database.close();
  }
}
