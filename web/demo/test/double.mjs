// The page built with the test double, served and opened for the tests of one file.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { launchBrowser, openModel, openPage, serve } from "./browser.mjs";

const BUILT = fileURLToPath(new URL("../.double", import.meta.url));

export function start({ before, after }) {
  const double = { server: null, visit };
  let browser;
  before(async () => {
    double.server = await serve(BUILT);
    browser = await launchBrowser();
  });
  after(async () => {
    await browser?.close();
    await double.server?.close();
  });

  /** A page in its own profile. A complaint of the browser or of the page's policy fails the test. */
  async function visit(steps, { path = "", before: prepare, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1180, height: 820 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
    try {
      if (prepare) await context.addInitScript(prepare);
      const { page, faults } = await openPage(context, double.server.page + path);
      await steps(page, context);
      assert.deepEqual(faults, []);
    } finally {
      await context.close();
    }
  }
  return double;
}

export const ready = async (page) => {
  await openModel(page);
  await page.getByRole("heading", { name: "What would you like to ask?" }).waitFor();
};
