// The page for everyone: axe in every state, in both themes and on a phone, no sideways scrolling, the drawer's focus.
// With SHOTS=folder it leaves a picture of each state.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { readFileSync } from "node:fs";
import { answered, ask, drop, openModel, openPage, unfold } from "./browser.mjs";
import { ready, start } from "./double.mjs";

const double = start({ before, after });
const { visit } = double;
const { SHOTS } = process.env;
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** These depend on what a model writes, which the page shows unchanged. */
const CONTENT = { "heading-order": { enabled: false }, "empty-table-header": { enabled: false } };

const ALL = { runOnly: TAGS, rules: CONTENT };
const COLOURS = { runOnly: ["color-contrast"] };

/** Minor findings are faults too. */
async function accessible(page, state, rules) {
  // Run in the page's own world by the debugger, which the page's policy does not bind.
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  const found = await page.evaluate((rules) => axe.run(document, { ...rules, resultTypes: ["violations"] }), rules);
  const told = found.violations.map(({ id, impact, nodes }) => `${state}: ${impact} ${id}: ${nodes.map(({ target }) => target).join(" ")}`);
  assert.deepEqual(told, []);
}

async function fits(page, state) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window, `${state}: ${wide} pixels in a window of ${window}`);
}

const picture = async (page, name) => {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name.replaceAll(" ", "-")}.png` });
};

/** A state in both themes. */
async function checkWide(page, state) {
  await picture(page, `light ${state}`);
  await accessible(page, state, ALL);
  await fits(page, state);
  await page.emulateMedia({ colorScheme: "dark" });
  await picture(page, `dark ${state}`);
  await accessible(page, `${state}, dark`, COLOURS);
  await page.emulateMedia({ colorScheme: "light" });
}

/** A state on a phone, and at the width that a zoom of 400 % leaves. */
async function checkPhone(page, state) {
  await picture(page, `phone ${state}`);
  await accessible(page, state, ALL);
  await fits(page, state);
  await page.setViewportSize({ width: 320, height: 640 });
  await fits(page, `${state}, at 320 pixels`);
  await picture(page, `narrow ${state}`);
  await page.setViewportSize(PHONE);
}

const PHONE = { width: 360, height: 700 };

/** Each state without a model, one after another. */
async function openingTour(page, context, check) {
  await page.getByRole("heading", { name: "Open a model" }).waitFor();
  await check(page, "no model");
  await page.getByRole("button", { name: /^Show all/ }).click();
  await drop(page, "a-file-with-a-long-name-that-is-no-model-whatever-it-is-called.gguf", "<!doctype html>");
  await page.getByText(/is a web page/).waitFor();
  await check(page, "all models and a wrong file");
  await page.getByRole("button", { name: "Dismiss" }).click();
  await drop(page, "a.gguf", "", true);
  await check(page, "files over the page");
  await page.evaluate(() => dispatchEvent(new DragEvent("dragleave")));
  await openModel(page, "broken.gguf");
  await page.locator(".fault").waitFor();
  await page.getByText("What was reported").click();
  await check(page, "fault");
  await page.getByRole("button", { name: "Choose another model" }).click();
  await openModel(page, "crawl.gguf");
  await page.waitForFunction((slowly) => document.querySelector("progress")?.value > 0 && (!slowly || /left/.test(document.querySelector(".numbers").textContent)), Boolean(SHOTS));
  await check(page, "loading");
  const { page: other } = await openPage(context, double.server.page);
  await other.getByText("Another tab downloads crawl.gguf").waitFor();
  await check(other, "another tab downloads");
  await other.getByRole("button", { name: "Open it here too" }).click();
  await other.getByRole("heading", { name: "Another tab downloads this model" }).waitFor();
  await check(other, "waiting for another tab");
  await other.close();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText(/downloaded$/).waitFor();
  await check(page, "given up");
  await page.getByRole("button", { name: "Discard it" }).click();
  await page.locator(".begun").waitFor({ state: "detached" });
  await ready(page);
}

/** Each state with a model. */
async function tour(page, context, check, narrow) {
  await openingTour(page, context, check);
  await check(page, "welcome");
  await ask(page, "Read this until I stop you");
  await page.getByText(/^Reading the prompt, 0 of/).waitFor();
  await check(page, "reading");
  const { page: other } = await openPage(context, double.server.page);
  await other.getByText("Another tab writes this answer").waitFor();
  await check(other, "another tab answers");
  await other.locator(".lamp.good").waitFor({ state: "attached" });
  await ask(other, "short");
  await other.getByText("Waiting until another tab has its answer").waitFor();
  await check(other, "waiting to answer");
  await other.keyboard.press("Escape");
  await other.close();
  await page.keyboard.press("Escape");
  await answered(page, 2);
  await ask(page, "something long");
  await page.getByText("Paragraph 3").waitFor();
  await check(page, "answering");
  await page.keyboard.press("Escape");
  await answered(page, 3);
  await ask(page, "Compare drinks in a table, with code, and averyveryverylongwordwithoutanyplacetobreakit".padEnd(200, "x"));
  await answered(page, 4);
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
  await answered(page, 5);
  await page.locator("math").first().waitFor();
  await page.getByRole("button", { name: /^Thought/ }).click();
  if (narrow) await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await check(page, "thinking and formulas and another model");
  await page.getByRole("button", { name: "Keep the current model" }).click();
  await ask(page, "prefill fault");
  await answered(page, 6);
  await check(page, "an answer that failed");
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
  await tooLongTour(page, check, narrow);
}

/** With a short context. */
async function tooLongTour(page, check, narrow) {
  if (narrow) await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await openModel(page, "small.gguf");
  await page.waitForFunction(() => document.querySelector(".model-status strong").textContent === "small");
  if (narrow) await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "New conversation" }).click();
  const words = (number) => `short ${Array.from({ length: number }, (_, at) => `w${at}`).join(" ")}`;
  await ask(page, words(60));
  await answered(page, 1);
  await ask(page, words(75));
  await answered(page, 2);
  await check(page, "too long");
  await page.getByRole("button", { name: "Leave out the 2 oldest messages" }).click();
  await page.getByText("no longer reads the 2 messages").waitFor();
  await answered(page, 2);
  await ask(page, words(600));
  await page.getByRole("button", { name: "Ask with the beginning of it" }).click();
  await answered(page, 3);
  await page.getByText(/^The model reads the first/).waitFor();
  await check(page, "left out and read in part");
}

test("every state, light and dark", () => visit((page, context) => tour(page, context, checkWide, false), { colorScheme: "light" }));

test("every state on a phone", () =>
  visit((page, context) => tour(page, context, checkPhone, true), { colorScheme: "dark", viewport: PHONE, hasTouch: true, isMobile: true }));

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
