// A model's Markdown. Each block is an element of its own, so that a growing answer changes only its last one.

import { memo } from "./memo";
import { useMemo } from "preact/hooks";
import { type Block, blocks } from "../text/markdown";
import { CopyButton } from "./copy-button";

export function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const found = useMemo(() => blocks(text), [text]);
  return (
    <div class={`prose ${growing ? "growing" : ""}`}>
      {found.map((block, index) =>
        block.kind === "code" ? <Code key={index} language={block.language} text={block.text} /> : <Html key={index} kind={block.kind} html={block.html} />,
      )}
    </div>
  );
}

const Html = memo(function Html({ kind, html }: { kind: Exclude<Block["kind"], "code">; html: string }) {
  const inner = { __html: html };
  // What can be wider than the page scrolls in itself, and so must be reachable with the keyboard.
  if (kind === "table") return <div class="block table" tabIndex={0} role="group" aria-label="Table" dangerouslySetInnerHTML={inner} />;
  return <div class="block" dangerouslySetInnerHTML={inner} />;
});

const Code = memo(function Code({ language, text }: { language: string; text: string }) {
  return (
    <figure class="block code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={text} label="Copy the code" />
      </figcaption>
      <pre tabIndex={0} aria-label={`Code, ${language || "text"}`} role="group">
        <code>{text}</code>
      </pre>
    </figure>
  );
});
