// What a text may call for beyond Markdown, fetched when one first does.

import { lazy } from "./lazy";

export const formulas = lazy(() => import("./formula"));
export const highlighter = lazy(() => import("./code"));
