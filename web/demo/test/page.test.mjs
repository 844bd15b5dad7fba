// What a person does with the page, played in Chromium with a test double of the package.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { answered, ask, openModel, openPage, unfold } from "./browser.mjs";
import { ready, start } from "./double.mjs";

const double = start({ before, after });
const { visit } = double;

const sendButton = (page) => page.getByRole("button", { name: "Send", exact: true });
const stopButton = (page) => page.getByRole("button", { name: "Stop", exact: true });
const answers = (page) => page.locator(".answer");
const counts = async (page, nth = -1) => {
  await answers(page).nth(nth).locator(".gist").waitFor();
  await unfold(page);
  return answers(page)
    .nth(nth)
    .locator(".legend li")
    .evaluateAll((rows) => Object.fromEntries(rows.map((row) => [row.childNodes[1].textContent, Number(row.querySelector("b").textContent.replace(",", ""))])));
};
/** Waits until an answer's folded account shows that it reused tokens of this source. */
const reused = (page, source) => page.locator(`.answer .gist-bar .cell.${source}`).first().waitFor({ state: "attached" });

describe("answers", () => {
  test("stream as Markdown, block by block, and leave the focus where it was", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "Compare drinks in a table, with code");
      await answered(page, 1);
      const prose = answers(page).locator(".prose");
      assert.equal(await prose.getByRole("heading", { level: 4 }).textContent(), "Two drinks");
      assert.equal(await prose.locator("td").first().textContent(), "Caffeine");
      assert.match(await prose.locator("pre code").textContent(), /^def brew/);
      assert.match(await prose.locator("li").first().textContent(), /☑ warm the cup/);
      assert.equal(await prose.getByRole("link", { name: "link" }).getAttribute("rel"), "noopener noreferrer nofollow");
      assert.equal(await page.evaluate(() => document.activeElement.id), "composer");
      await prose.getByRole("button", { name: "Copy the code" }).click();
      assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def brew/);
      await prose.locator("pre .hljs-keyword").first().waitFor();
      assert.deepEqual(await prose.locator("pre .hljs-keyword").allTextContents(), ["def", "return"]);
      assert.match(await prose.locator("pre code").textContent(), /^def brew.*phone"$/s, "colours leave the text as it is");

      await ask(page, "think");
      await answered(page, 2);
      const thinking = answers(page).last().getByRole("button", { name: "Thought for 22 words" });
      assert.equal(await thinking.getAttribute("aria-expanded"), "false");
      assert.equal(await answers(page).last().locator(".prose").textContent(), "It is three.\n");
      await thinking.click();
      assert.equal(await answers(page).last().locator(".thinking strong").textContent(), "small");
    }));

  test("show formulas, and anything else as it was written", () =>
    visit(async (page) => {
      await ready(page);
      const foreign = [];
      page.on("request", (request) => !/\/app\//.test(request.url()) && foreign.push(request.url()));
      const chunks = () => double.server.asked.filter((path) => /\/formula-/.test(path)).length;
      await ask(page, "short");
      await answered(page, 1);
      const before = chunks();
      await ask(page, "a formula");
      await answered(page, 2);
      const prose = answers(page).last().locator(".prose");
      await prose.locator("math").first().waitFor();
      assert.equal(chunks(), before + 1, "what sets formulas is fetched by the first answer that has one");
      assert.equal(await prose.locator(".formula > math mfrac").count(), 1, "on lines of its own");
      assert.deepEqual(await prose.locator("li var > math").count(), 3, "in a list");
      assert.equal(await prose.locator("li mtable").count(), 1);
      assert.match(await prose.textContent(), /That costs \$5 and not \$10, or \$7-\$9\./);
      assert.deepEqual(await prose.locator("var.unset").allTextContents(), ["\\frac{1", "\\href{javascript:window.__pwned='href'}{x}", "\\includegraphics{/foreign/tex.png}"]);
      assert.match(await prose.locator("mtext").last().textContent(), /^<img\s/);
      assert.equal(await prose.locator("img, a, script").count(), 0);
      assert.deepEqual(foreign, []);
      const [height, width] = await prose.evaluate((root) => [root.scrollHeight, root.scrollWidth - root.clientWidth]);
      assert.ok(height < 1000 && width <= 0, `${height} pixels high, ${width} too wide`);
    }));

  test("show the progress of the prompt until they begin", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "Read this until I stop you");
      await answers(page).getByText(/^Reading the prompt, 0 of \d+ tokens$/).waitFor();
      await stopButton(page).click();
      await answered(page, 1);
      assert.equal(await answers(page).getByText("Reading the prompt").count(), 0);
    }));

  test("cannot run scripts, load anything, or cover the page", () =>
    visit(async (page) => {
      await ready(page);
      const foreign = [];
      page.on("request", (request) => !/\/app\//.test(request.url()) && foreign.push(request.url()));
      await ask(page, "hostile");
      await answered(page, 1);
      const prose = answers(page).locator(".prose");
      assert.match(await prose.textContent(), /END/, "the whole answer is shown");
      for (const link of await prose.locator("a").all()) {
        await link.hover();
        assert.match(await link.getAttribute("href"), /^(https?|mailto):/);
      }
      assert.equal(await page.evaluate(() => window.__pwned), undefined);
      assert.deepEqual(foreign, []);
      assert.deepEqual(double.server.asked.filter((path) => path.startsWith("/foreign")), []);
      const elements = await prose.evaluate((root) => [...root.querySelectorAll("*")].map((element) => element.localName));
      const expected = /^(div|p|a|br|em|strong|code|pre|figure|figcaption|span|svg|path|button)$/;
      assert.deepEqual(elements.filter((name) => !expected.test(name)), []);
      const wrong = await prose.evaluate((root) =>
        [...root.querySelectorAll("*")].flatMap((element) => [...element.attributes].map(({ name }) => name)).filter((name) => /^on|^style$|^src|^srcdoc|^action$/.test(name)),
      );
      assert.deepEqual(wrong, []);
      assert.equal(await prose.locator(".block button").count(), await prose.locator("figcaption button").count(), "the only buttons are the page's own");
      assert.ok(await page.getByLabel("Message", { exact: true }).isVisible());
    }));

  test("stop with the button and with Escape, and keep what was written", () =>
    visit(async (page) => {
      await ready(page);
      for (const [count, stop] of [
        [1, () => stopButton(page).click()],
        [2, () => page.keyboard.press("Escape")],
      ]) {
        await ask(page, "cling to something long");
        await answers(page).nth(count - 1).getByText("Paragraph 2").waitFor();
        await stop();
        await answered(page, count);
        await page.waitForFunction(() => "letGo" in globalThis);
        assert.equal(await answers(page).nth(count - 1).locator(".gist").count(), 0, "shown as stopped before the engine has stopped");
        assert.ok(await sendButton(page).isVisible());
        await page.evaluate(() => (globalThis.letGo(), delete globalThis.letGo));
        const text = await answers(page).nth(count - 1).textContent();
        assert.match(text, /Stopped\./);
        assert.doesNotMatch(text, /Paragraph 40/);
        assert.equal(await page.evaluate(() => document.activeElement.id), "composer");
        assert.ok((await counts(page)).Computed > 0, "a stopped answer has its account too");
      }
    }));

  test("are announced to a screen reader when they begin and end, not word by word", () =>
    visit(async (page) => {
      await ready(page);
      await page.evaluate(() => {
        window.__said = [];
        const region = document.querySelector('[role="status"].visually-hidden');
        new MutationObserver(() => window.__said.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
      });
      await ask(page, "short");
      await answered(page, 1);
      await ask(page, "Explain a prefix cache");
      await answered(page, 2);
      await page.waitForFunction(() => window.__said.length >= 4);
      const said = await page.evaluate(() => window.__said);
      assert.deepEqual(said.slice(0, 3), ["Answering.", "Answer: Yes.", "Answering."]);
      assert.match(said[3], /^Answer complete, \d+ words\.$/);
      assert.equal(said.length, 4);
      assert.equal(await page.locator("[aria-live]:not(.visually-hidden)").count(), 0);
    }));

  test("that fail say why, and the next one works", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "prefill fault");
      await answered(page, 1);
      assert.match(await page.getByRole("alert").textContent(), /could not be asked\..*roles must alternate/s);
      await ask(page, "lose the device");
      await answered(page, 2);
      await page.getByRole("heading", { name: "The graphics card was lost" }).waitFor();
      await page.getByRole("button", { name: "Try again" }).click();
      await page.locator(".lamp.good").waitFor();
      await ask(page, "short");
      await answered(page, 3);
      assert.match(await answers(page).last().textContent(), /Yes\./);
      await ask(page, "fill the context");
      await answered(page, 4);
      assert.match(await answers(page).last().textContent(), /ended where the model’s context is full\. .* at most 8,192 tokens/);
      await answers(page).last().getByRole("button", { name: "Leave out the oldest message" }).click();
      await answered(page, 4);
      assert.match(await page.locator(".left-out").textContent(), /no longer reads the message above/);
    }));

  test("that do not fit the context are not computed, and the conversation continues", () =>
    visit(async (page) => {
      const long = (name, words = 40) => `short ${name} ${Array.from({ length: words }, (_, at) => `w${at}`).join(" ")}`;
      const notice = () => answers(page).last().locator(".too-long");
      const buttons = () => notice().getByRole("button").allTextContents();
      await openModel(page, "small.gguf");
      await page.locator(".lamp.good").waitFor();
      for (const [at, name] of ["A", "B", "C"].entries()) {
        await ask(page, long(name));
        await answered(page, at + 1);
      }
      const text = await notice().textContent();
      assert.match(text, /Too long to ask\. .* at most 160 tokens .* has 172 tokens: 13 tokens too many\. Your message “short A w0 .*…” alone has 47 tokens\./);
      assert.doesNotMatch(text, /--|raise/);
      assert.deepEqual(await buttons(), ["Leave out the 2 oldest messages"]);
      await notice().getByRole("button", { name: "Leave out" }).click();
      await answered(page, 3);
      assert.match(await answers(page).last().textContent(), /Yes\./);
      await ask(page, "What did I ask?");
      await answered(page, 4);
      assert.match(await answers(page).last().locator(".prose").textContent(), /^short B .*short C .*What did I ask\?\n$/s, "without the oldest");
      await page.getByRole("button", { name: "Read them again" }).click();
      assert.equal(await page.locator(".left-out").count(), 0);
      await page.waitForFunction(() => document.activeElement.id === "composer");
      assert.equal(await page.locator(".unread").count(), 0);

      await page.getByRole("button", { name: "New conversation" }).click();
      await ask(page, long("D", 200));
      await answered(page, 1);
      assert.deepEqual(await buttons(), ["Ask with the beginning of it", "Edit the message"]);
      await ask(page, "What did I ask?");
      await answered(page, 2);
      assert.equal(await answers(page).last().locator(".prose").textContent(), "What did I ask?\n", "what was refused is not in the way");
      assert.equal(await page.locator(".too-long button").count(), 0);
      await ask(page, long("E", 200));
      await answered(page, 3);
      await notice().getByRole("button", { name: "Edit the message" }).click();
      assert.ok(await page.getByLabel("Edit your message").evaluate((field) => field === document.activeElement));
      await page.keyboard.press("Escape");
      await notice().getByRole("button", { name: "Ask with the beginning of it" }).click();
      await page.getByText(/^The model reads the first \d+ % of this message\.$/).waitFor();
      await answered(page, 3);
      assert.match(await answers(page).last().textContent(), /Yes\./);
    }));
});

describe("conversations", () => {
  test("an earlier message can be edited, and what followed can be restored", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "short one");
      await answered(page, 1);
      await ask(page, "short two");
      await answered(page, 2);
      const first = page.locator(".question").first();
      await first.hover();
      await first.getByRole("button", { name: "Edit and ask again" }).click();
      const editor = page.getByLabel("Edit your message");
      assert.ok(await editor.evaluate((field) => field === document.activeElement));
      await page.keyboard.press("Escape");
      await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Edit and ask again");
      await page.keyboard.press("Enter");
      await editor.fill("short three");
      await page.keyboard.press("Enter");
      await answered(page, 1);
      assert.equal(await first.locator(".said").textContent(), "short three");
      await page.getByRole("button", { name: "Undo" }).click();
      await answered(page, 2);
      assert.equal(await first.locator(".said").textContent(), "short one");
    }));

  test("an answer can be generated again from the same prompt, whose KV is reused", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "Explain a prefix cache in a few words, please, as if to a child of ten years");
      await answered(page, 1);
      const before = await counts(page);
      assert.equal(before.GPU, undefined);
      await page.getByRole("button", { name: "Answer again" }).click();
      await reused(page, "gpu");
      await answered(page, 1);
      const now = await counts(page);
      assert.equal(now.GPU + now.Computed, before.Computed);
      assert.ok(now.Computed <= 16);
    }));

  test("are kept over a reload, renamed, deleted and restored", () =>
    visit(async (page, context) => {
      // Another tab shows a change once it is stored.
      const { page: other } = await openPage(context, double.server.page);
      // A browser draws the tab in front, and a click waits for what is drawn.
      await page.bringToFront();
      await ready(page);
      await ask(page, "short and first");
      await answered(page, 1);
      await page.getByRole("button", { name: "New conversation" }).click();
      await ask(page, "short and second");
      await answered(page, 1);
      await page.getByRole("button", { name: "Rename short and second" }).click();
      await page.keyboard.type("Renamed");
      await page.keyboard.press("Enter");
      await other.getByRole("button", { name: "Renamed", exact: true }).waitFor();
      await page.reload();
      await page.getByRole("button", { name: "Renamed", exact: true }).waitFor();
      assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), "Renamed");
      assert.match(await answers(page).first().textContent(), /Yes\./);
      await page.locator(".lamp.good").waitFor();
      await other.getByRole("button", { name: "Renamed", exact: true }).click({ force: true });
      await page.getByRole("button", { name: "Delete Renamed" }).click();
      assert.equal(await page.locator(".conversation").count(), 1);
      await other.getByText("Another tab deleted “Renamed”.").waitFor();
      await page.getByRole("button", { name: "Undo" }).click();
      await page.getByRole("button", { name: "Renamed", exact: true }).waitFor();
      assert.equal(await page.locator(".conversation").count(), 2);
      await page.getByRole("button", { name: "Delete Renamed" }).click();
      await page.getByRole("button", { name: "Delete short and first" }).click();
      await page.getByRole("heading", { name: "What would you like to ask?" }).waitFor();
      await other.waitForFunction(() => document.querySelectorAll(".conversation").length === 0);
      await page.reload();
      await page.locator(".lamp.good").waitFor();
      assert.equal(await page.locator(".conversation").count(), 0);
    }));

  test("show what another tab wrote", () =>
    visit(async (page, context) => {
      await ready(page);
      const { page: other } = await openPage(context, double.server.page);
      await ask(page, "short, from the first tab");
      await answered(page, 1);
      await other.getByRole("button", { name: "short, from the first tab", exact: true }).click();
      await answered(other, 1);
      assert.match(await answers(other).first().textContent(), /Yes\./);

      // One of them answers, and the other one asks.
      const said = (tab) => tab.locator(".said").allTextContents();
      await other.locator(".lamp.good").waitFor();
      await ask(page, "Read this until I stop you");
      await answers(other).getByText("Another tab writes this answer").waitFor();
      assert.ok(await other.getByRole("button", { name: "Answer again" }).first().isDisabled());
      await ask(other, "What did I ask?");
      await answers(other).getByText("Waiting until another tab has its answer").waitFor();
      await stopButton(page).click({ force: true });
      await answered(other, 3);
      assert.match(await answers(other).last().locator(".prose").textContent(), /^short, from the first tab \| Read this until I stop you\s+What did I ask\?\s*$/);
      await answered(page, 3);
      await page.getByText("short, from the first tab | Read").waitFor();
      assert.deepEqual(await said(page), await said(other));
    }));

  test("keep what two tabs write without hearing of each other", () =>
    visit(
      async (page, context) => {
        await ready(page);
        await ask(page, "short one");
        await answered(page, 1);
        const { page: other } = await openPage(context, double.server.page);
        await other.locator(".lamp.good").waitFor();
        await ask(page, "short two");
        await answered(page, 2);
        assert.equal(await answers(other).count(), 1);
        await ask(other, "What did I ask?");
        await answered(other, 3);
        assert.equal(await answers(other).last().locator(".prose").textContent(), "short one | short two | What did I ask?\n");
        await ask(page, "something long");
        await answers(page).last().getByText("Paragraph 1").waitFor();
        await ask(other, "What was said?");
        await answers(page).last().getByText("Paragraph 3").waitFor();
        await stopButton(page).click({ force: true });
        await answered(other, 5);
        assert.match(await answers(other).last().locator(".prose").textContent(), /What did I ask\? \|.*\| something long \| Paragraph 1 .*Paragraph 3/s);
        await page.reload();
        assert.deepEqual(await page.locator(".said").allTextContents(), ["short one", "short two", "What did I ask?", "something long", "What was said?"]);
      },
      { before: () => (globalThis.BroadcastChannel = class { postMessage() {} }) },
    ));

  test("keep unsent text: each its own, over a reload, and during an answer", () =>
    visit(async (page) => {
      const field = page.getByLabel("Message", { exact: true });
      const value = () => field.inputValue();
      const said = () => page.locator('[role="status"].visually-hidden').textContent();
      await ready(page);
      await field.fill("a draft of a new one");
      await page.reload();
      await page.getByRole("heading", { name: "What would you like to ask?" }).waitFor();
      assert.equal(await value(), "a draft of a new one");
      await page.getByRole("button", { name: /^Compare tea/ }).click();
      await answered(page, 1);
      assert.equal(await value(), "a draft of a new one", "a question of the page's own takes nothing away");
      await ask(page, "something long");
      await answers(page).last().getByText("Paragraph 1").waitFor();
      await field.fill("the next question");
      await field.press("Enter");
      await page.locator(".hint.refused").getByText("Your message stays here. Enter sends it after the answer").waitFor();
      assert.match(await said(), /^Not sent\. Your message stays here/);
      assert.equal(await answers(page).count(), 2);
      await page.getByRole("button", { name: "New conversation" }).click();
      assert.equal(await value(), "");
      await field.fill("of the other");
      assert.ok(await page.locator(".starter").last().isDisabled(), "one answer at a time");
      await page.locator(".opener").click();
      assert.equal(await value(), "the next question");
      await page.keyboard.press("Escape");
      await answered(page, 2);

      // A question that is being edited.
      await page.locator(".question").first().hover();
      await page.getByRole("button", { name: "Edit and ask again" }).first().click();
      await page.getByLabel("Edit your message").fill("Compare them in a longer table");
      await page.reload();
      await page.locator(".lamp.good").waitFor();
      assert.equal(await value(), "the next question");
      assert.equal(await page.getByLabel("Edit your message").inputValue(), "Compare them in a longer table");
      await page.getByLabel("Edit your message").press("Escape");
      await field.press("Enter");
      await answered(page, 3);
      assert.equal(await page.locator(".said").last().textContent(), "the next question");
      await page.getByRole("button", { name: /^Delete Compare/ }).click();
      await page.reload();
      await page.locator(".lamp.good").waitFor();
      assert.equal(await value(), "of the other");
      // Written before the page shows the conversation that was chosen.
      await ask(page, "short");
      await answered(page, 1);
      await page.evaluate(() => {
        [...document.querySelectorAll(".sidebar button")].find(({ textContent }) => textContent === "New conversation").click();
        const field = document.getElementById("composer");
        field.value = "at once";
        field.dispatchEvent(new Event("input", { bubbles: true }));
      });
      await page.getByRole("heading", { name: "What would you like to ask?" }).waitFor();
      assert.equal(await value(), "at once");
      await page.waitForFunction(() => Object.keys(localStorage).filter((key) => key.startsWith("headstart.draft.")).length === 1);
    }));

  test("do not mix when one is opened and scrolled while another is answered", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, "something long");
      await answers(page).getByText("Paragraph 6").waitFor();
      // The browser reports scrolling when the answer has grown further.
      await page.evaluate(() => {
        document.querySelector(".turns").style.paddingBottom = "400px";
        document.querySelector(".transcript").dispatchEvent(new Event("scroll"));
      });
      await page.waitForFunction(() => {
        const { scrollHeight, scrollTop, clientHeight } = document.querySelector(".transcript");
        return scrollHeight - scrollTop - clientHeight < 2;
      });
      // And after the conversation is gone.
      const before = await page.evaluate(() => {
        const before = document.querySelector(".transcript").scrollTop;
        document.querySelector(".transcript").scrollTop = 0;
        [...document.querySelectorAll(".sidebar button")].find(({ textContent }) => textContent === "New conversation").click();
        return before;
      });
      assert.ok(before > 0);
      await page.waitForFunction(() => document.querySelectorAll(".answer").length === 0);
      await page.getByLabel("Message", { exact: true }).fill("short");
      await page.keyboard.press("Enter");
      assert.equal(await answers(page).count(), 0, "one answer at a time");
      await stopButton(page).click();
      await sendButton(page).click();
      await answered(page, 1);
      assert.match(await answers(page).textContent(), /Yes\./);
    }, { viewport: { width: 1180, height: 420 } }));
});

describe("the account of a prompt", () => {
  const QUESTION = "Tell me about bicycles, their history, their wheels, their makers and the towns where they were first ridden";

  test("has one cell a token, counts that add up, and a second answer that reuses the first", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, QUESTION);
      await answered(page, 1);
      await ask(page, "short");
      await answered(page, 2);
      const found = await counts(page);
      const total = found.GPU + found.Computed;
      assert.ok(found.GPU >= 32 && found.Computed > 0);
      assert.equal(await answers(page).last().locator(".gist").textContent(), `${found.GPU} of ${total} tokens reused`);
      const strip = answers(page).last().getByRole("slider");
      assert.equal(await strip.locator(".cell").count(), total);
      assert.equal(await strip.locator(".cell.gpu").count(), found.GPU);
      assert.match(await answers(page).last().locator(".figures").textContent(), new RegExp(`Reused${found.GPU} of ${total}First token.+Speed.+tokens/sSaved≈ \\d+ ms`));
    }));

  test("can be read with the keyboard, the pointer and a screen reader", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, QUESTION);
      await answered(page, 1);
      const strip = page.getByRole("slider");
      assert.equal(await strip.count(), 0, "one line until it is asked for");
      await unfold(page);
      await page.getByRole("button", { name: "Answer again" }).focus();
      await page.keyboard.press("Tab");
      assert.ok(await strip.evaluate((element) => element === document.activeElement));
      await page.waitForFunction(() => /im_start/.test(document.querySelector(".strip").ariaValueText ?? document.querySelector(".strip").getAttribute("aria-valuetext")));
      assert.match(await strip.getAttribute("aria-valuetext"), /^<\|im_start\|>, token 1 of \d+, the system prompt, Computed: was computed now$/);
      await page.keyboard.press("End");
      assert.match(await page.locator(".tip").textContent(), /the chat template/);
      await page.keyboard.press("Escape");
      assert.equal(await page.locator(".tip").count(), 0);
      await strip.locator(".cell").nth(22).hover();
      assert.match(await page.locator(".tip").textContent(), /token 23 of \d+ · message 1 \(yours\)/);
    }));

  test("gathers the tokens of a long prompt into cells that add up to it", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, Array.from({ length: 900 }, (_, at) => `word${at}`).join(" "));
      await answered(page, 1);
      await unfold(page);
      const cells = await page.getByRole("slider").locator(".cell").count();
      assert.ok(cells <= 330, `${cells} cells`);
      const height = () => page.locator(".said").evaluate(({ offsetHeight }) => offsetHeight);
      assert.ok((await height()) < 300, "a long question is folded, so that its answer is in sight");
      await page.getByRole("button", { name: "Show all of it" }).click();
      assert.ok((await height()) > 400);
      await page.getByRole("button", { name: "Show less" }).click();
      await page.getByRole("slider").locator(".cell").nth(100).hover();
      assert.match(await page.locator(".tip").textContent(), /tokens \d+–\d+ of/);
    }));

  test("names the disk as the source after a reload, and shows text once the model is there", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, QUESTION);
      await answered(page, 1);
      await page.reload();
      await page.locator(".lamp.good").waitFor();
      assert.ok((await counts(page)).Computed > 0, "an old account is shown as it was");
      await ask(page, "short");
      await answered(page, 2);
      const found = await counts(page);
      assert.ok(found.Disk >= 32 && found.GPU === undefined);
      assert.match(await answers(page).last().locator(".figures").textContent(), /Saved≈ \d+ ms/, "by the rate of the visit before");
    }));

  test("explains a divergence: the place, the message, both sides, and the tokens that a change would recover", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, QUESTION);
      await answered(page, 1);
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("System prompt").fill("You are a helpful assistant. It is 12:31.");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Escape");
      await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Settings");
      await ask(page, "short");
      await answered(page, 2);
      await unfold(page);
      const button = answers(page).last().getByRole("button", { name: /^Why/ });
      assert.equal(await button.getAttribute("aria-expanded"), "false");
      await button.click();
      assert.equal(await button.getAttribute("aria-expanded"), "true");
      const text = await answers(page).last().locator(".explanation").textContent();
      assert.match(text, /follow a difference in the text/);
      assert.match(text, /Differs from the known prompt at token \d+, in the system prompt/);
      assert.match(text, /Known.*This prompt.*It is 12:31/);
      assert.match(text, /Put what changes last, in a second system message\. Then \d+ tokens after it could be reused/);
      assert.equal(await answers(page).last().locator(".cell.parts").count(), 1);
    }));

  test("shows packs, obeys the switch, and can be cleared", () =>
    visit(async (page) => {
      await ready(page);
      await ask(page, QUESTION);
      await answered(page, 1);
      await page.getByRole("button", { name: "Settings" }).click();
      const saved = page.waitForEvent("download");
      await page.getByRole("button", { name: "Save this conversation as a pack" }).click();
      const pack = await (await saved).path();
      await page.getByRole("button", { name: "Clear the cache" }).click();
      await page.getByText("The cache is empty").waitFor();
      await page.getByLabel("Open a prefix pack").setInputFiles(pack);
      await page.getByText(/Loaded \d+ tokens from the pack “helpdesk”/).waitFor();
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Answer again" }).click();
      await reused(page, "pack");
      assert.ok((await counts(page)).Pack >= 16);

      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Reuse prompts that were read before").uncheck();
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.getByRole("button", { name: /^0 of \d+ tokens reused$/ }).waitFor();
    }));
});
