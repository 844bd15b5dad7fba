// The test double's answers. A word in the question chooses one.

import type { ChatMessage } from "headstart";

const ORDINARY = `A **prefix cache** keeps the keys and values that a model computed for the beginning of a prompt, so that the same beginning is never read twice.

1. The prompt is cut into blocks of tokens, and each block is named by a hash of everything up to its end.
2. A new prompt looks its blocks up, one after another, until one is not known.
3. Only what is left is computed.

That is why *static parts first, variables last* pays: see \`usage.prompt_tokens_details\`.`;

const RICH = `## Two drinks

| | Tea | Coffee |
|---|---:|:---:|
| Caffeine | 40 mg | 95 mg |
| Brewing | 3 min | 4 min |

\`\`\`python
def brew(grams: int, water_at: float = 93.5) -> str:
    return f"{grams} g with water at {water_at} degrees, a line long enough to need scrolling on a phone"
\`\`\`

> Water quality matters more than most people think.

- [x] warm the cup
- [ ] weigh the beans
  - nested, with a [link](https://example.com/beans "Beans")`;

/** \`HOST\` becomes an address that counts its requests. */
const HOSTILE = `Here is what you asked for.

<script>window.__pwned = "block script"</script>

Inline <img src=x onerror="window.__pwned='onerror'"> and <svg onload="window.__pwned='svg'"></svg>.

![tracking](HOST/markdown-image.png) and <img src="HOST/raw-image.png">

[click me](javascript:window.__pwned='link') and [data](data:text/html,<script>window.__pwned=1</script>)
and [vb](vbscript:x) and [mixed](JaVaScRiPt:window.__pwned='mixed') and [spaced](java&#10;script:window.__pwned='entity')

<iframe src="HOST/frame"></iframe><object data="HOST/object"></object><embed src="HOST/embed">

<form action="HOST/form"><button onclick="window.__pwned='button'">Sign in</button><input name=password></form>

<style>body { display: none } @import url(HOST/style.css);</style><link rel=stylesheet href="HOST/link.css">

<a href="https://example.com" onmouseover="window.__pwned='hover'" style="position:fixed;inset:0">covering link</a>

<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=window.__pwned='mxss'&gt;">

<base href="HOST/"><meta http-equiv=refresh content="0;url=HOST/refresh">

\`\`\`html
<img src=x onerror="window.__pwned='code'">
\`\`\`

\`\`\`"><img src=x onerror=window.__pwned='language'>
x
\`\`\`

[ref]: javascript:window.__pwned='ref'
[by reference][ref] <https://example.com/auto"onmouseover="window.__pwned='auto'> END`;

const FORMULAS = String.raw`The roots of $ax^2 + bx + c = 0$ are

$$
x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
$$

and \(e^{i\pi} + 1 = 0\) holds, in a list too:

- \[ \int_0^\infty e^{-x^2}\,dx = \frac{\sqrt\pi}{2} \]
- a matrix $\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$ and $\pmb{x} + \color{red}{y}$

That costs $5 and not $10, or $7-$9. \[ \sum_{n=1}^{N} n = \frac{N(N+1)}{2} \]

Not LaTeX: $\frac{1$, and hostile: $\href{javascript:window.__pwned='href'}{x}$ $\includegraphics{/foreign/tex.png}$ $\text{<img src=x onerror=alert(1)>}$

$$\rule{900em}{900em}$$`;

const THOUGHT = `<think>
The person asks for a number. It is **small**, so I can count: one, two, three.

\`\`\`js
const three = 3;
\`\`\`
</think>

It is three.`;

export function answerTo(question: string, messages: readonly ChatMessage[]): string {
  if (/what was said/i.test(question)) return messages.map(({ content }) => String(content)).join(" | ");
  if (/what did I ask/i.test(question)) return messages.flatMap(({ role, content }) => (role === "user" ? [String(content)] : [])).join(" | ");
  if (/think.*formula/i.test(question)) return `${THOUGHT}\n\n${FORMULAS}`;
  if (/formula/i.test(question)) return FORMULAS;
  if (/think/i.test(question)) return THOUGHT;
  if (/hostile/i.test(question)) return HOSTILE.replaceAll("HOST", `${location.origin}/foreign`);
  if (/table|code|drinks/i.test(question)) return RICH;
  if (/long/i.test(question)) return Array.from({ length: 40 }, (_, at) => `Paragraph ${at + 1} of a long answer, which goes on for a while.`).join("\n\n");
  if (/short/i.test(question)) return "Yes.";
  return ORDINARY;
}
