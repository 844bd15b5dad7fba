// Renders a model's Markdown. Each block is an element, so a growing answer changes only its last one.

import { memo } from "./memo";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { LONGEST_CODE, blocks, sanitizeCode } from "../text/markdown";
import { formulas, highlighter } from "../text/tools";
import { CopyButton } from "./copy-button";

export function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const found = useMemo(() => blocks(text), [text]);
  return (
    <div class={`prose ${growing ? "growing" : ""}`}>
      {found.map((block, index) => {
        if (block.kind === "code") return <Code key={index} language={block.language} text={block.text} />;
        if (block.kind === "formula") return <Formula key={index} text={block.text} />;
        return <Html key={index} kind={block.kind} html={block.html} />;
      })}
    </div>
  );
}

const Html = memo(function Html({ kind, html }: { kind: "table" | "prose"; html: string }) {
  const box = useRef<HTMLDivElement>(null);
  const holdsFormulas = html.includes("<var>");
  if (holdsFormulas) formulas.want();
  const tools = holdsFormulas ? formulas.value.value : null;
  useLayoutEffect(() => {
    if (!tools || !box.current) return;
    for (const place of box.current.querySelectorAll("var")) setFormula(place, () => tools.formula(place.textContent, false));
  }, [html, tools]);
  const inner = { __html: html };
  // What can be wider than the page scrolls in itself, and so must be reachable with the keyboard.
  if (kind === "table") return <div ref={box} class="block table" tabIndex={0} role="group" aria-label="Table" dangerouslySetInnerHTML={inner} />;
  return <div ref={box} class="block" dangerouslySetInnerHTML={inner} />;
});

const Formula = memo(function Formula({ text }: { text: string }) {
  const box = useRef<HTMLDivElement>(null);
  formulas.want();
  const tools = formulas.value.value;
  useLayoutEffect(() => {
    const place = box.current;
    if (!place) return;
    place.textContent = text;
    if (tools) setFormula(place, () => tools.formula(text, true));
  }, [text, tools]);
  return <div ref={box} class="block formula" tabIndex={0} role="group" aria-label="Formula" />;
});

/** Puts a formula in the place of its source, which stays where it cannot be set. */
function setFormula(place: HTMLElement, make: () => Node): void {
  try {
    place.replaceChildren(make());
  } catch {
    place.classList.add("unset");
  }
}

const Code = memo(function Code({ language, text }: { language: string; text: string }) {
  const short = text.length <= LONGEST_CODE;
  if (short && language) highlighter.want();
  const colours = (short && highlighter.value.value?.colours(language)) || null;
  colours?.want();
  const markup = colours?.value.value ? sanitizeCode(colours.value.value.of(text)) : null;
  return (
    <figure class="block code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={text} label="Copy the code" />
      </figcaption>
      <pre tabIndex={0} aria-label={`Code, ${language || "text"}`} role="group">
        {markup === null ? <code key="plain">{text}</code> : <code key="coloured" dangerouslySetInnerHTML={{ __html: markup }} />}
      </pre>
    </figure>
  );
});
