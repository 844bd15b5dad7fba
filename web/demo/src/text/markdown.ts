// What a model wrote, made safe to show. A model's output is as hostile as any page's: it repeats what it was given.
//
// Three fences stand behind each other. Raw HTML is shown as text and images as links, so nothing loads from elsewhere;
// what Markdown itself makes goes through an allow-list; and the page's policy forbids foreign scripts and images.

import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";

export type Block =
  | { kind: "code"; language: string; text: string }
  | { kind: "table"; html: string }
  | { kind: "prose"; html: string };

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr h3 h4 h5 h6 ul ol li blockquote pre code em strong del a".split(" "),
    ..."table thead tbody tr th td".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "rel", "target", "align", "start"],
  ADD_URI_SAFE_ATTR: ["rel", "target", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
};

const marked = new Marked({
  gfm: true,
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
  return { kind: token.type === "table" ? "table" : "prose", html: sanitize(marked.parser([token])) };
}

export function sanitize(html: string): string {
  return DOMPurify.sanitize(html, ALLOWED);
}

function link(href: string, inner: string, title: string | null): string {
  if (!/^(?:https?|mailto):/i.test(href.trim())) return inner;
  const tip = title ? `${title} (${href})` : href;
  return `<a href="${escape(href)}" title="${escape(tip)}" target="_blank" rel="noopener noreferrer nofollow">${inner}</a>`;
}

const word = (language: unknown): string => (typeof language === "string" ? (language.match(/^[\w+#.-]{1,24}/)?.[0] ?? "") : "");

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
