import type { ListedModel } from "../types.js";

/** The repository's `models.json`, which the build puts here. */
export declare const LISTED: readonly Omit<ListedModel, "url">[];
