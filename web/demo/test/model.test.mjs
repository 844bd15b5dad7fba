// Opening a model: from an address, a chosen file or a dropped one; progress; errors and what to do.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { answered, ask, drop, openModel, openPage } from "./browser.mjs";
import { ready, start } from "./double.mjs";

const double = start({ before, after });
const { visit } = double;

/** Both must be present. */
const SHARDS = [1, 2].map((number) => ({ name: `chosen-0000${number}-of-00002.gguf`, mimeType: "application/octet-stream", buffer: Buffer.from("GGUF and so on") }));
const welcome = (page) => page.getByRole("heading", { name: "What would you like to ask?" });
const opened = (page) => page.locator(".lamp.good").waitFor();

describe("a model", () => {
  test("is downloaded, uploaded and compiled with its progress shown, and can be cancelled", () =>
    visit(async (page) => {
      await openModel(page, "slow.gguf");
      for (const title of ["Downloading the model", "Moving weights to the graphics card", "Preparing the graphics card’s programs"])
        await page.waitForFunction((title) => {
          const value = document.querySelector("progress")?.value;
          return document.getElementById("progress-title")?.textContent === title && value > 0.3 && value <= 1;
        }, title);
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByRole("heading", { name: "Open a model" }).waitFor();
      assert.equal(await page.getByLabel("Address of a GGUF file").inputValue(), "slow.gguf");
    }));

  test("shows its download's speed, resumes where it was cancelled, and is shown in other tabs", () =>
    visit(async (page, context) => {
      const bar = (tab) => tab.getByRole("progressbar").first().evaluate(({ value }) => value);
      await page.getByRole("heading", { name: "Open a model" }).waitFor();
      const { page: other, faults } = await openPage(context, double.server.page);
      await page.bringToFront();
      await openModel(page, "crawl.gguf");
      await other.getByText("Another tab downloads crawl.gguf").waitFor();
      await page.getByText(/^\d+\.\d of 93\.8 MiB · \d+\.\d MiB\/s · (a few seconds|\d+ (s|min|h)) left$/).waitFor();
      const reached = await bar(page);
      await page.getByRole("button", { name: "Cancel" }).click();
      const arrived = page.getByText(/^\d+\.\d of 93\.8 MiB downloaded$/);
      const told = await arrived.textContent();
      await other.getByText("Another tab downloads").waitFor({ state: "detached" });
      assert.equal(await page.getByLabel("Address of a GGUF file").inputValue(), "crawl.gguf");
      await page.reload();
      await page.getByRole("region", { name: "Stopped download of crawl.gguf" }).waitFor();
      assert.equal(await arrived.textContent(), told, "a reload shows how much is kept");
      await page.getByRole("button", { name: "Resume the download" }).click();
      await page.getByRole("heading", { name: "Downloading the model" }).waitFor();
      await page.waitForFunction(() => document.querySelector("progress")?.value > 0);
      assert.ok((await bar(page)) >= reached, "from where it was");

      await other.getByRole("button", { name: "Open it here too" }).click({ force: true });
      await other.getByRole("heading", { name: "Another tab downloads this model" }).waitFor();
      assert.ok((await bar(other)) >= reached);
      await page.getByRole("button", { name: "Cancel" }).click();
      await other.getByRole("heading", { name: "Downloading the model" }).waitFor();
      await page.getByText("Another tab downloads crawl.gguf").waitFor();
      assert.equal(await page.getByRole("button", { name: "Resume the download" }).count(), 0);
      await page.getByRole("button", { name: "Open it here too" }).click();
      for (const tab of [other, page]) await tab.evaluate(() => (globalThis.hurry = true));
      await Promise.all([opened(page), opened(other)]);
      assert.deepEqual(faults, []);
    }));

  test("can be written to before it is loaded", () =>
    visit(async (page) => {
      await openModel(page, "crawl.gguf");
      await page.getByLabel("Message", { exact: true }).fill("short");
      await page.keyboard.press("Enter");
      assert.equal(await page.locator(".question").count(), 0);
      await page.locator(".hint.refused").getByText("The model is loading. Your message stays here.").waitFor();
      await page.evaluate(() => (globalThis.hurry = true));
      await opened(page);
      assert.equal(await page.locator(".hint.refused").count(), 0);
      assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), "short");
      await page.keyboard.press("Enter");
      await answered(page, 1);
    }));

  test("from an address opens again on the next visit, until it is closed", () =>
    visit(async (page) => {
      await ready(page);
      await page.reload();
      await opened(page);
      await page.getByRole("button", { name: "Close", exact: true }).click();
      await page.reload();
      await page.getByRole("heading", { name: "Open a model" }).waitFor();
      await page.getByRole("button", { name: "tiny-chat.gguf Kept in this browser · 93.8 MiB" }).click();
      await opened(page);
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByRole("button", { name: "Delete tiny-chat.gguf" }).click();
      await page.getByText("This browser keeps no models").waitFor();
    }));

  test("that the host offers opens with a click", () =>
    visit(async (page) => {
      await page.route("**/models.json", (route) =>
        route.fulfill({ json: [{ name: "Little one", url: "./little.gguf", about: "94 MB", packs: ["./shop.safetensors"] }, { url: 7 }] }),
      );
      await page.reload();
      await page.getByRole("button", { name: "Little one 94 MB" }).click();
      await opened(page);
      assert.equal(await page.locator(".model-status strong").textContent(), "little");
    }));

  test("from files opens again on the next visit, from the kept copies", () =>
    visit(async (page) => {
      const name = () => page.locator(".model-status strong").textContent();
      await page.getByLabel("Choose a model file").setInputFiles(SHARDS);
      await opened(page);
      assert.equal(await name(), "chosen of 2");
      await page.waitForFunction(async () => {
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("headstart-demo").catch(() => null);
        const last = await folder?.getFileHandle("chosen-00002-of-00002.gguf").catch(() => null);
        return last && (await last.getFile()).size > 0;
      });
      await page.reload();
      await opened(page);
      assert.equal(await name(), "chosen of 2");
    }));

  test("of the hub opens by its name, and of the package's list with a click, with its size and memory shown", () =>
    visit(
      async (page) => {
        await page.getByRole("button", { name: "Show all 26 models" }).click();
        const shown = await page.locator(".offer").allTextContents();
        assert.equal(shown.length, 26);
        assert.match(shown[0], /^SmolLM2 135M Instruct Apache 2\.0 · tested · 93\.8 MiB Fits: it takes about 183\.8 MiB of memory with 4,096 tokens\.$/);
        assert.match(shown.at(-1), /^Qwen3 30B-A3B.*untested · 17\.3 GiB Too large: it takes about 17\.7 GiB.*and this device has about 4\.0 GiB\.$/);
        await page.getByRole("button", { name: /^Qwen3 0\.6B/ }).click();
        await opened(page);
        assert.equal(await page.locator(".model-status strong").textContent(), "Qwen3-0.6B-Q8_0");
        await page.getByRole("button", { name: "Change", exact: true }).click();
        await openModel(page, "owner/model-GGUF:Q8_0");
        await page.waitForFunction(() => document.querySelector(".model-status strong").textContent === "owner/model-GGUF:Q8_0 of the hub");
      },
      { before: () => Object.defineProperty(Navigator.prototype, "deviceMemory", { get: () => 4 }) },
    ));

  test("that is kept as a directory opens again, and a stopped download can be discarded", () =>
    visit(
      async (page) => {
        const stopped = page.getByRole("region", { name: "Stopped download of half.gguf" });
        assert.match(await stopped.textContent(), /^half\.gguf40\.0 of 93\.8 MiB downloaded/);
        await page.getByRole("button", { name: "Settings" }).click();
        await page.getByText("40.0 of 93.8 MiB downloaded").last().waitFor();
        await page.keyboard.press("Escape");
        await stopped.getByRole("button", { name: "Discard it" }).click();
        await stopped.waitFor({ state: "detached" });
        await page.getByRole("button", { name: "Whole Kept in this browser · 93.8 MiB" }).click();
        await opened(page);
      },
      {
        before: () => {
          const kept = (name, path, loaded) => ({ source: `https://hub.example/${path}`, name, size: 98_362_432, loaded, complete: loaded === 98_362_432 });
          localStorage.setItem("double.weights", JSON.stringify([kept("half.gguf", "half.gguf", 5 << 23), kept("Whole", "whole/", 98_362_432)]));
        },
      },
    ));

  test("answers until another one is ready, and stays if that one fails or is cancelled", () =>
    visit(async (page) => {
      const name = () => page.locator(".model-status strong").textContent();
      const change = async (file) => {
        await page.getByRole("button", { name: "Change", exact: true }).click();
        await openModel(page, file);
      };
      await ready(page);
      await change("broken.gguf");
      await page.getByRole("heading", { name: "This is not a model that can be opened" }).waitFor();
      await page.getByRole("button", { name: "Keep the current model" }).click();
      await change("crawl.gguf");
      await page.waitForFunction(() => document.querySelector("progress")?.value > 0.1);
      await ask(page, "short");
      await answered(page, 1);
      assert.ok(await page.getByRole("progressbar").isVisible(), "answered while the other was on its way");
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByRole("button", { name: "Resume" }).click();
      await page.waitForFunction(() => document.querySelector("progress")?.value > 0.1);
      await page.getByRole("button", { name: "Cancel" }).click();
      assert.equal(await name(), "tiny-chat");
      await ask(page, "something long");
      await page.getByText("Paragraph 2").waitFor();
      await change("other.gguf");
      await page.waitForFunction(() => document.querySelector(".model-status strong").textContent === "other");
      await page.getByText("Paragraph 12").waitFor();
      await page.keyboard.press("Escape");
      await answered(page, 2);
      await ask(page, "short");
      await answered(page, 3);
      assert.match(await page.locator(".answer").last().textContent(), /Yes\./);
    }));

  test("can be dropped on the page, and another one in its place", () =>
    visit(async (page) => {
      await page.getByRole("heading", { name: "Open a model" }).waitFor();
      await drop(page, "first.gguf");
      await opened(page);
      await drop(page, "second.gguf");
      await page.waitForFunction(() => document.querySelector(".model-status strong").textContent === "second");
      await drop(page, "pack.safetensors", '\x7f\0\0\0\0\0\0\0{"__metadata__":{"format":"headstart-pack/1"}}damaged');
      await page.getByText("This prefix pack does not fit").waitFor();
      assert.equal(await page.locator(".drop-over").count(), 0);
    }));

  test("stays, ready or loading, when something else is dropped or chosen", () =>
    visit(async (page) => {
      await openModel(page, "crawl.gguf");
      await page.waitForFunction(() => document.querySelector("progress")?.value > 0);
      await drop(page, "notes.gguf", "<!DOCTYPE html><html>");
      await page.getByText("“notes.gguf” is a web page, not a model").waitFor();
      assert.ok(await page.getByRole("progressbar").isVisible());
      await page.evaluate(() => (globalThis.hurry = true));
      await opened(page);
      await drop(page, "holiday.txt", "Dear all");
      await page.getByText("“holiday.txt” is not a model.").waitFor();
      await page.getByRole("button", { name: "Change", exact: true }).click();
      await page.getByLabel("Choose a model file").setInputFiles({ name: "empty.gguf", mimeType: "", buffer: Buffer.from("") });
      await page.getByText("“empty.gguf” is empty.").waitFor();
      assert.equal(await page.locator(".fault").count(), 0);
      await ask(page, "short");
      await answered(page, 1);
    }));

  test("can be named in the page's address, and is fetched only when requested", () =>
    visit(
      async (page) => {
        assert.equal(await page.getByLabel("Address of a GGUF file").inputValue(), "https://example.com/a.gguf");
        assert.equal(await page.getByRole("progressbar").count(), 0);
        await page.getByLabel("Address of a GGUF file").fill("javascript:alert(1)");
        assert.ok(await page.getByRole("button", { name: "Download" }).isDisabled());
      },
      { path: "?model=https://example.com/a.gguf" },
    ));
});

describe("what goes wrong with a model", () => {
  const TABLE = [
    ["missing", "The server did not give the model", /no file at this address \(404\)/, ["Try again", "Choose another model"]],
    ["broken%", "This is not a model that can be opened", /GGUF/, ["Choose another model"]],
    ["foreign", "The server does not let this page read its files", /open it from your disk/, ["Choose another model"]],
    ["policy", "The policy of this page forbids it", /\(connect-src\)/, ["Choose another model"]],
    ["cut", "The download broke off", /Try again to resume/, ["Try again", "Choose another model"]],
    ["huge", "The graphics card ran out of memory", /could not give 2,048 MiB/, ["Open with 1,024 tokens of context", "Choose another model"]],
    ["quota", "There is not enough space to keep the model", /20 MiB more, and 94 MiB are needed/, ["Open without keeping a copy", "Cache and space"]],
    ["nogpu", "This browser offers no WebGPU", /Chrome and Edge.*Safari.*Firefox/, ["Try again"]],
  ];
  test("is shown with what to do, and never with an option of the command line", () =>
    visit(async (page) => {
      const panel = page.locator(".fault");
      for (const [name, title, text, remedies] of TABLE) {
        await openModel(page, `${name}.gguf`);
        await page.getByRole("heading", { name: title }).waitFor();
        assert.match(await panel.textContent(), text);
        assert.doesNotMatch(await panel.textContent(), /--[a-z]/);
        assert.deepEqual(await panel.getByRole("button").allTextContents(), remedies);
        if (!remedies.includes("Choose another model")) {
          await page.reload();
          continue;
        }
        await page.getByRole("button", { name: "Choose another model" }).click();
        assert.equal(await page.getByLabel("Address of a GGUF file").inputValue(), `${name}.gguf`);
      }
      await ready(page);
    }));

  test("no room for a copy: the model opens without one", () =>
    visit(async (page) => {
      await openModel(page, "quota.gguf");
      await page.getByRole("button", { name: "Open without keeping a copy" }).click();
      await welcome(page).waitFor();
    }));

  test("a browser without WebGPU is told at once, and still shows earlier conversations", () =>
    visit(
      async (page) => {
        await page.getByRole("heading", { name: "This browser offers no WebGPU" }).waitFor();
        assert.ok(await page.getByRole("button", { name: "Send", exact: true }).isDisabled());
      },
      { before: () => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }) },
    ));
});

describe("settings", () => {
  test("are kept, merged from two tabs, and each has its effect", () =>
    visit(async (page, context) => {
      const { page: other } = await openPage(context, double.server.page);
      await page.bringToFront();
      await ready(page);
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Maximum tokens in an answer").fill("5");
      await page.getByLabel("Temperature").fill("0");
      await page.getByRole("button", { name: "Close settings" }).click();
      await other.bringToFront();
      await other.getByRole("button", { name: /^Theme: system/ }).click();
      await page.bringToFront();
      await page.waitForFunction(() => document.documentElement.dataset.theme === "light");
      await ask(page, "Explain a prefix cache");
      await answered(page, 1);
      assert.match(await page.locator(".answer").textContent(), /Ended at the maximum number of tokens/);
      await page.reload();
      await page.getByRole("button", { name: "Settings" }).click();
      assert.equal(await page.getByLabel("Maximum tokens in an answer").inputValue(), "5");
      assert.match(await page.locator("output").textContent(), /^0, always the most likely$/);
      await page.getByLabel("System prompt").fill("Be brief.");
      await page.reload();
      await page.getByRole("button", { name: "Settings" }).click();
      assert.equal(await page.getByLabel("System prompt").inputValue(), "Be brief.");
    }));

  test("return the focus at once, so that they do not take it while a person writes", () =>
    visit(async (page) => {
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByRole("button", { name: "Close settings" }).waitFor();
      const focused = await page.evaluate(async () => {
        const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        document.querySelector('[aria-label="Close settings"]').click();
        await later(0);
        document.getElementById("composer").focus();
        await later(300);
        return document.activeElement.id;
      });
      assert.equal(focused, "composer");
    }));

  test("the theme follows the system until one is chosen, and a reload keeps it", () =>
    visit(
      async (page) => {
        const page_ = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
        const dark = await page_();
        await page.getByRole("button", { name: /^Theme: system/ }).click();
        const light = await page_();
        assert.notEqual(dark, light);
        await page.reload();
        assert.equal(await page_(), light);
        await page.getByRole("button", { name: /^Theme: light/ }).click();
        assert.equal(await page_(), dark);
      },
      { colorScheme: "dark" },
    ));
});
