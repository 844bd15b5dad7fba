// Code in colours. Each language is fetched when a block names it; what comes back passes the allow-list again.

import hljs from "highlight.js/lib/core";
import type { LanguageFn } from "highlight.js";
import { type Lazy, lazy } from "./lazy";

const GRAMMARS: Record<string, () => Promise<{ default: LanguageFn }>> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  csharp: () => import("highlight.js/lib/languages/csharp"),
  css: () => import("highlight.js/lib/languages/css"),
  diff: () => import("highlight.js/lib/languages/diff"),
  go: () => import("highlight.js/lib/languages/go"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  kotlin: () => import("highlight.js/lib/languages/kotlin"),
  php: () => import("highlight.js/lib/languages/php"),
  python: () => import("highlight.js/lib/languages/python"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  sql: () => import("highlight.js/lib/languages/sql"),
  swift: () => import("highlight.js/lib/languages/swift"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

const ALIASES: Record<string, string> = {
  "c++": "cpp", cs: "csharp", h: "c", html: "xml", js: "javascript", jsx: "javascript", kt: "kotlin", py: "python", rb: "ruby",
  rs: "rust", sh: "bash", shell: "bash", svg: "xml", ts: "typescript", tsx: "typescript", yml: "yaml", zsh: "bash",
};

/** Gives a text as markup of spans alone. */
export interface Colours {
  of(text: string): string;
}

const known: Record<string, Lazy<Colours>> = {};

/** Null for a language that this page does not know. */
export function colours(language: string): Lazy<Colours> | null {
  const lower = language.toLowerCase();
  const name = ALIASES[lower] ?? lower;
  const grammar = Object.hasOwn(GRAMMARS, name) ? GRAMMARS[name] : undefined;
  if (!grammar) return null;
  return (known[name] ??= lazy(async () => {
    hljs.registerLanguage(name, (await grammar()).default);
    return { of: (text) => hljs.highlight(text, { language: name, ignoreIllegals: true }).value };
  }));
}
