// The real package's errors, as a person sees them: each has its words and says what to do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch, openModel, openPage, serve } from "../browser.mjs";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
let server;
let browser;
before(async () => {
  server = await serve(DIST, { "page.gguf": `${DIST}/index.html` });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

async function visit(steps, { context } = browser) {
  const { page } = await openPage(context, server.page);
  await steps(page);
  await page.close();
}

const fault = async (page, title) => {
  await page.getByRole("heading", { name: title }).waitFor({ timeout: 60_000 });
  await page.getByText("What was reported").click();
  return page.locator(".fault").textContent();
};

test("an address without a file", () =>
  visit(async (page) => {
    await openModel(page, "../nothing.gguf");
    assert.match(await fault(page, "The server did not give the model"), /\(404\).*http_status/s);
  }));

test("a server that is not there", () =>
  visit(async (page) => {
    await openModel(page, "http://127.0.0.1:9/model.gguf");
    assert.match(await fault(page, "The download broke off"), /download/);
  }));

test("an address and a file that are no model", () =>
  visit(async (page) => {
    await openModel(page, "../page.gguf");
    assert.match(await fault(page, "The server did not give the model"), /an HTML page/);
    await page.getByRole("button", { name: "Choose another model" }).click();
    await page.getByLabel("Choose a model file").setInputFiles({ name: "notes.gguf", mimeType: "text/plain", buffer: Buffer.from("GGUF, but no model at all") });
    assert.match(await fault(page, "This is not a model that can be opened"), /bad_model/);
  }));

test("a browser whose WebGPU has no adapter", async () => {
  const without = await launch({
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-features=WebGPU"],
  });
  try {
    const steps = async (page) => assert.match(await fault(page, "This browser finds no graphics card"), /graphics driver.*no_adapter/s);
    await visit(steps, without);
  } finally {
    await without.close();
  }
});
