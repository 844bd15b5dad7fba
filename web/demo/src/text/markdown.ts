// Makes a model's output safe to show. It can be as hostile as any page, since a model repeats its input.
//
// A display formula is a block. One in a list or a quote is set within the line.
//
// There are three layers of protection. Raw HTML is shown as text and images as links, so nothing loads from other hosts. The markup
// that Markdown produces goes through an allow-list. The page's policy forbids foreign scripts and images.

import DOMPurify from "dompurify";
import { Marked, type Token, type TokenizerExtension, type RendererExtension, type Tokens } from "marked";

export type Block =
  | { kind: "code"; language: string; text: string }
  | { kind: "formula"; text: string }
  | { kind: "table"; html: string }
  | { kind: "prose"; html: string };

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr h3 h4 h5 h6 ul ol li blockquote pre code em strong del a var".split(" "),
    ..."table thead tbody tr th td".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "rel", "target", "align", "start"],
  ADD_URI_SAFE_ATTR: ["rel", "target", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
};

/** A formula on lines of its own, between `$$` or `\\[` and `\\]`. */
const DISPLAY = /^ {0,3}(?:\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/;
/** One within a line. A dollar sign with a space inside it, or a digit behind it, is money. */
const INLINE = /^(?:\$\$([^$\n]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?![\s$])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d))/;

const display: TokenizerExtension & RendererExtension = {
  name: "formula",
  level: "block",
  start: (text) => text.match(/^ {0,3}(?:\$\$|\\\[)/m)?.index,
  tokenizer(text) {
    const found = DISPLAY.exec(text);
    return found ? { type: "formula", raw: found[0], text: (found[1] ?? found[2])!.trim() } : undefined;
  },
  renderer: ({ text }) => `<p><var>\\displaystyle ${escape(String(text))}</var></p>`,
};

/** Shown as it is written, in an element that the page then sets. What the model writes itself never becomes one. */
const inline: TokenizerExtension & RendererExtension = {
  name: "inlineFormula",
  level: "inline",
  start: (text) => text.match(/\$|\\[([]/)?.index,
  tokenizer(text) {
    const found = INLINE.exec(text);
    if (!found) return undefined;
    const large = found[1] ?? found[2];
    return { type: "inlineFormula", raw: found[0], text: large === undefined ? found[3] ?? found[4] : `\\displaystyle ${large.trim()}` };
  },
  renderer: ({ text }) => `<var>${escape(String(text))}</var>`,
};

const marked = new Marked({
  gfm: true,
  extensions: [display, inline],
  renderer: {
    // The page itself has the first two levels.
    heading({ tokens, depth }: Tokens.Heading) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    html: ({ text, block }: Tokens.HTML | Tokens.Tag) => (block ? `<p>${escape(text)}</p>` : escape(text)),
    image: ({ href, text }: Tokens.Image) => link(href, `Image: ${escape(text || href)}`, null),
    link({ href, title, tokens }: Tokens.Link) {
      return link(href, this.parser.parseInline(tokens), title ?? null);
    },
    checkbox: ({ checked }: Tokens.Checkbox) => (checked ? "☑ " : "☐ "),
  },
});

/** The top-level blocks of a text, each complete in itself, so that while it grows only the last one changes. */
export function blocks(text: string): Block[] {
  const tokens = marked.lexer(text);
  return tokens.filter(({ type }) => type !== "space" && type !== "def").map(block);
}

function block(token: Token): Block {
  if (token.type === "code") return { kind: "code", language: word(token.lang), text: token.text };
  if (token.type === "formula") return { kind: "formula", text: String(token.text) };
  return { kind: token.type === "table" ? "table" : "prose", html: sanitize(marked.parser([token])) };
}

export function sanitize(html: string): string {
  return DOMPurify.sanitize(html, ALLOWED);
}

/** Longer code stays as it is: its colours are computed again as it grows. */
export const LONGEST_CODE = 20_000;

const COLOURED = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], ALLOW_ARIA_ATTR: false, ALLOW_DATA_ATTR: false };

/** The markup of coloured code: spans and their classes. */
export function sanitizeCode(html: string): string {
  return DOMPurify.sanitize(html, COLOURED);
}

function link(href: string, inner: string, title: string | null): string {
  if (!/^(?:https?|mailto):/i.test(href.trim())) return inner;
  const tip = title ? `${title} (${href})` : href;
  return `<a href="${escape(href)}" title="${escape(tip)}" target="_blank" rel="noopener noreferrer nofollow">${inner}</a>`;
}

const word = (language: unknown): string => (typeof language === "string" ? (language.match(/^[\w+#.-]{1,24}/)?.[0] ?? "") : "");

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
