// The page for everyone: axe in every state and both themes, no sideways scrolling on a narrow phone, the drawer's focus.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { readFileSync } from "node:fs";
import { answered, ask, openModel, unfold } from "./browser.mjs";
import { ready, start } from "./double.mjs";

const { visit } = start({ before, after });
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What a model writes decides about these, and the page shows it as it is. */
const CONTENT = { "heading-order": { enabled: false }, "empty-table-header": { enabled: false } };

/** Not only serious findings are faults: minor ones too. */
async function check(page, state) {
  // Run in the page's own world by the debugger, which the page's policy does not bind.
  await page.evaluate(AXE);
  const found = await page.evaluate(({ tags, rules }) => axe.run(document, { runOnly: tags, rules }), { tags: TAGS, rules: CONTENT });
  const told = found.violations.map(({ id, impact, nodes }) => `${state}: ${impact} ${id}: ${nodes.map(({ target }) => target).join(" ")}`);
  assert.deepEqual(told, []);
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window, `${state}: ${wide} pixels in a window of ${window}`);
}

/** Each state a person can meet, one after another. */
async function tour(page, narrow) {
  await page.getByRole("heading", { name: "Open a model" }).waitFor();
  await page.getByRole("button", { name: /^Show all/ }).click();
  await check(page, "no model");
  await openModel(page, "broken.gguf");
  await page.locator(".fault").waitFor();
  await page.getByText("What was reported").click();
  await check(page, "fault");
  await page.getByRole("button", { name: "Choose another model" }).click();
  await openModel(page, "slow.gguf");
  await page.getByRole("progressbar").waitFor();
  await check(page, "loading");
  await page.getByRole("button", { name: "Cancel" }).click();
  await ready(page);
  await check(page, "welcome");
  await ask(page, "something long");
  await page.getByText("Paragraph 3").waitFor();
  await check(page, "answering");
  await page.keyboard.press("Escape");
  await answered(page, 1);
  await ask(page, "Compare drinks in a table, with code, and averyveryverylongwordwithoutanyplacetobreakit".padEnd(200, "x"));
  await answered(page, 2);
  await page.locator(".hljs-string").first().waitFor();
  await unfold(page);
  await page.getByRole("slider").last().focus();
  await page.keyboard.press("ArrowRight");
  await check(page, "answered");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("System prompt").fill("You are a helpful assistant. It is 12:31.");
  await check(page, "settings");
  await page.keyboard.press("Escape");
  await ask(page, "think of a formula");
  await answered(page, 3);
  await page.locator("math").first().waitFor();
  await page.getByRole("button", { name: /^Thought/ }).click();
  if (narrow) await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await check(page, "thinking, formulas and another model");
  await page.getByRole("button", { name: "Keep the present model" }).click();
  await ask(page, "prefill fault");
  await answered(page, 4);
  await page.getByRole("button", { name: /^Why/ }).last().click();
  await page.getByRole("button", { name: "Answer again" }).first().click();
  await page.getByRole("button", { name: "Undo" }).waitFor();
  await page.keyboard.press("Escape");
  await answered(page, 1);
  await check(page, "notice");
  if (!narrow) await page.locator(".question").first().hover();
  await page.getByRole("button", { name: "Edit and ask again" }).first().click();
  await check(page, "editing");
  await page.keyboard.press("Escape");
  if (narrow) {
    await page.getByRole("button", { name: "Conversations" }).click();
    await page.waitForFunction(() => document.querySelector(".sidebar").contains(document.activeElement));
    await check(page, "drawer");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator(".sidebar").isVisible(), false);
  }
}

for (const colorScheme of ["light", "dark"]) {
  test(`every state, ${colorScheme}`, () => visit((page) => tour(page, false), { colorScheme }));
}

test("every state on a phone of 360 pixels", () =>
  visit((page) => tour(page, true), { colorScheme: "dark", viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true }));

test("every state at 320 pixels, as at a zoom of 400 %", () => visit((page) => tour(page, true), { viewport: { width: 320, height: 640 } }));

test("everything can be reached with the keyboard, and shows where the focus is", () =>
  visit(async (page) => {
    await ready(page);
    await ask(page, "Compare drinks in a table, with code");
    await answered(page, 1);
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    for (let at = 0; at < 40; at += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement === document.body)) continue;
      const [name, visible] = await page.evaluate(() => {
        const { activeElement: element } = document;
        const shown = [element, element.parentElement].some((it) => it && getComputedStyle(it).outlineStyle !== "none");
        return [element.getAttribute("aria-label") ?? element.textContent.trim(), shown];
      });
      if (reached.has(name)) break;
      reached.add(name);
      assert.ok(visible, `no outline on ${name}`);
    }
    for (const name of ["Skip to the message box", "New conversation", "Settings", "Conversation", "Table", "Code, python", "Answer again", "Message"])
      assert.ok([...reached].includes(name), `${name} among ${[...reached].join(", ")}`);
  }));
