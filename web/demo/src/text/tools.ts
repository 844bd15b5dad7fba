// Tools for formulas and coloured code, loaded when a text first needs them.

import { lazy } from "./lazy";

export const formulas = lazy(() => import("./formula"));
export const highlighter = lazy(() => import("./code"));
