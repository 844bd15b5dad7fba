// Headless browsers, each with an empty profile and a software GPU: Chromium on SwiftShader, Firefox on Mesa.
//
// Both have the shape `{ name, page, newPage, setQuota, close }`. A page has `goto`, `reload`, `evaluate(function, argument)`,
// `waitForFunction(function)` and the events `console` and `pageerror` in both.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

/** Playwright's options for Chromium. */
export const CHROMIUM = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  chromiumSandbox: false,
  args: [
    ...WEBGPU,
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
  ],
};

const FIREFOX_PREFERENCES = {
  "dom.webgpu.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  "gfx.webgpu.force-enabled": true,
  "app.update.enabled": false,
  "toolkit.telemetry.enabled": false,
};

const kinds = {
  async chromium(profile, { webgpu = true } = {}) {
    const without = [...CHROMIUM.args.filter((arg) => !WEBGPU.includes(arg)), "--disable-features=WebGPU"];
    const context = await chromium.launchPersistentContext(profile, webgpu ? CHROMIUM : { ...CHROMIUM, args: without });
    // The override lasts as long as its session, so the session stays open.
    const setQuota = async (page, quotaSize) => {
      const session = await context.newCDPSession(page);
      await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize });
    };
    return { page: context.pages()[0] ?? (await context.newPage()), newPage: () => context.newPage(), setQuota, close: () => context.close() };
  },
  async firefox(profile, { webgpu = true } = {}) {
    const browser = await puppeteer.launch({
      browser: "firefox",
      executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
      headless: true,
      userDataDir: profile,
      protocolTimeout: 600_000,
      extraPrefsFirefox: { ...FIREFOX_PREFERENCES, "dom.webgpu.enabled": webgpu },
    });
    const [page] = await browser.pages();
    return { page: page ?? (await browser.newPage()), newPage: () => browser.newPage(), close: () => browser.close() };
  },
};

/** The browsers that the tests use. `BROWSERS=firefox` selects one. */
export const BROWSERS = (process.env.BROWSERS ?? "chromium,firefox").split(",");

export async function open(name, options) {
  const profile = await mkdtemp(path.join(tmpdir(), `headstart-${name}-`));
  const browser = await kinds[name](profile, options);
  return {
    name,
    ...browser,
    async close() {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    },
  };
}
