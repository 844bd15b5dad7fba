// The shipped page, with the real package and model on a software adapter: send, stop, edit, regenerate, reload,
// and reused tokens, each from the expected source. It is short, since the adapter computes a few tokens a second.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { answered, ask, launch, openModel, openPage, serve, unfold } from "../browser.mjs";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const MODEL = process.env.MODEL ?? path("../../../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
const SHOTS = path("../../.shots");
const LONG = 240_000;

const SYSTEM =
  "You answer for a small bicycle shop by the harbour. You are brief and kind, and you name prices in euro. The shop is open from nine to six, on Saturdays until two.";

const last = (page) => page.locator(".answer").last();
const counts = async (page) => {
  // A stopped answer has its account as soon as the engine has stopped.
  await last(page).locator(".gist").waitFor({ timeout: LONG });
  await unfold(page);
  return last(page)
    .locator(".legend li")
    .evaluateAll((rows) => Object.fromEntries(rows.map((row) => [row.childNodes[1].textContent, Number(row.querySelector("b").textContent)])));
};
const reused = (page, source) => page.locator(`.answer .gist-bar .cell.${source}`).first().waitFor({ state: "attached", timeout: LONG });
const prose = (page) => last(page).locator(".prose").textContent();
const ready = (page) => page.locator(".lamp.good").waitFor({ timeout: LONG });
const sum = (found) => Object.values(found).reduce((all, tokens) => all + tokens, 0);

test("a person chats, comes back, and known tokens are not computed again", { timeout: 900_000 }, async () => {
  mkdirSync(SHOTS, { recursive: true });
  const server = await serve(path("../../dist"), { "model.gguf": MODEL });
  const { context, close } = await launch({ colorScheme: "light" });
  try {
    const { page, faults } = await openPage(context, server.page);
    const shot = (name) => page.screenshot({ path: `${SHOTS}/${name}.png` });

    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("System prompt").fill(SYSTEM);
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Maximum tokens in an answer").fill("6");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Escape");
    await openModel(page, "../model.gguf");
    await page.getByRole("progressbar").waitFor();
    await shot("real-loading");
    await ready(page);
    assert.ok(server.sent["/model.gguf"] > 90e6, "the model was downloaded");

    await ask(page, "When are you open on Saturdays?");
    await page.locator(".waiting").waitFor();
    await shot("real-reading");
    await answered(page, 1, LONG);
    const first = { text: await prose(page), found: await counts(page) };
    assert.ok(first.text.length > 10);
    assert.deepEqual(Object.keys(first.found), ["Computed"]);
    assert.equal(await last(page).locator(".strip .cell").count(), first.found.Computed);
    await last(page).locator(".strip .cell").nth(8).hover();
    await page.waitForFunction(() => /the system prompt/.test(document.querySelector(".tip")?.textContent));
    await shot("real-first");

    await page.getByRole("button", { name: "Answer again" }).click();
    await reused(page, "gpu");
    await answered(page, 1, LONG);
    const again = await counts(page);
    assert.equal(await prose(page), first.text, "the same prompt gives the same answer, computed or reused");
    assert.equal(sum(again), sum(first.found));
    assert.deepEqual(Object.keys(again), ["GPU"], "all of it, down to the last token");

    await ask(page, "And on Sundays?");
    await page.waitForFunction(() => document.querySelectorAll(".answer").length === 2 && document.querySelector(".answer:last-child .prose")?.textContent.length > 4, undefined, { timeout: LONG });
    await page.keyboard.press("Escape");
    await answered(page, 2, LONG);
    assert.match(await last(page).textContent(), /Stopped\./);
    assert.ok((await counts(page)).GPU >= sum(first.found) - 16, "the first turn was reused");
    await shot("real-stopped");

    const question = page.locator(".question").first();
    await question.hover();
    await question.getByRole("button", { name: "Edit and ask again" }).click();
    await page.getByLabel("Edit your message").fill("How much is a bell?");
    await page.keyboard.press("Enter");
    await answered(page, 1, LONG);
    assert.ok((await counts(page)).GPU >= 32, "the system prompt was reused");
    await last(page).getByRole("button", { name: /^Why/ }).click();
    const why = await last(page).locator(".explanation").textContent();
    assert.match(why, /Differs from the known prompt at token \d+, in message 1 \(yours\)/);
    assert.match(why, /How much.*/s);
    await shot("real-diverged");

    const downloaded = server.sent["/model.gguf"];
    await page.reload();
    await ready(page);
    assert.ok(server.sent["/model.gguf"] - downloaded < 1e6, "the weights were not downloaded again");
    assert.match(await page.locator(".question .said").textContent(), /How much is a bell/);
    await page.getByRole("button", { name: "Answer again" }).click();
    await reused(page, "disk");
    await answered(page, 1, LONG);
    assert.ok((await counts(page)).Disk >= 32, "KV came from this browser's disk");
    assert.match(await last(page).locator(".figures").textContent(), /Saved≈/);
    await shot("real-reloaded");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot("real-dark");
    await page.setViewportSize({ width: 360, height: 740 });
    await shot("real-phone");
    assert.deepEqual(faults, []);
  } finally {
    await close();
    await server.close();
  }
});
