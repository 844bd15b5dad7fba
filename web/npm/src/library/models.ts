/** The models that are known by name, with the address of each. */

import type { ListedModel } from "../types.js";
import { LISTED } from "./listed.js";

export const HUB = "https://huggingface.co";

export const models: readonly ListedModel[] = LISTED.map((listed) => ({ ...listed, url: `${HUB}/${listed.repo}/resolve/main/${listed.file}` }));
