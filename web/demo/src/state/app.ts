// The state of the page. It is created once at the start and passed to the components.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { signal } from "@preact/signals";
import { judge } from "../models/dropped";
import { Chat } from "./chat";
import { Database } from "./database";
import { Drafts } from "./drafts";
import { faultOf } from "./faults";
import { Library } from "./library";
import { Model } from "./model";
import { Notices } from "./notices";
import { Settings } from "./settings";
import { Tabs } from "./tabs";

export class App {
  readonly notices = new Notices();
  readonly settings = new Settings();
  readonly tabs = new Tabs();
  readonly drafts = new Drafts();
  readonly library = new Library(new Database(), this.notices);
  readonly model = new Model(this.settings, this.tabs);
  readonly chat = new Chat(this.library, this.model, this.settings, this.notices, this.tabs);
  readonly settingsOpen = signal(false);
  readonly sidebarOpen = signal(false);
  /** Whether another model is being chosen while one is ready. */
  readonly choosing = signal(false);

  async start(): Promise<void> {
    await Promise.all([this.#loadLibrary(), this.model.start()]);
  }

  async #loadLibrary(): Promise<void> {
    const found = await this.library.load(() => this.drafts.of(null) !== "");
    if (found) this.drafts.keepOnly(new Set(found.flatMap(({ id, turns }) => [id, ...turns.map(({ id }) => id)])));
  }

  /** Opens chosen or dropped files: a model, or a prefix pack for the open model. Other files change nothing. */
  async take(files: readonly File[]): Promise<void> {
    const found = await judge(files);
    if (found.kind === "wrong") this.notices.show({ text: found.why, stays: true });
    else if (found.kind === "pack") await this.takePack(found.file);
    else {
      this.settingsOpen.value = false;
      this.choosing.value = false;
      await this.model.open({ kind: "files", files: found.files });
    }
  }

  async takePack(file: File): Promise<void> {
    const headstart = this.model.headstart;
    if (!headstart) return this.notices.show({ text: `“${file.name}” is a prefix pack. Open its model first, then drop the pack again.`, stays: true });
    try {
      const pack = await headstart.prefix.import(file);
      this.notices.show({ text: `Loaded ${pack.tokens.toLocaleString("en")} tokens from the pack “${pack.name}”.` });
    } catch (thrown) {
      const { title, text } = faultOf(thrown);
      this.notices.show({ text: `${title}. ${text}`, stays: true });
    }
  }
}

const Context = createContext<App | null>(null);
export const AppProvider = Context.Provider;

export function useApp(): App {
  const app = useContext(Context);
  if (!app) throw new Error("a component stands outside the app");
  return app;
}
