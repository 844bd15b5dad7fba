// Everything the page keeps, made once at the start and handed down to the components.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { signal } from "@preact/signals";
import { Chat } from "./chat";
import { Database } from "./database";
import { Library } from "./library";
import { Model } from "./model";
import { Notices } from "./notices";
import { Settings } from "./settings";

export class App {
  readonly notices = new Notices();
  readonly settings = new Settings();
  readonly library = new Library(new Database(), this.notices);
  readonly model = new Model(this.settings);
  readonly chat = new Chat(this.library, this.model, this.settings, this.notices);
  readonly settingsOpen = signal(false);
  readonly sidebarOpen = signal(false);
  /** Whether another model is being chosen while one is ready. */
  readonly choosing = signal(false);

  async start(): Promise<void> {
    await Promise.all([this.library.load(), this.model.start()]);
  }
}

const Context = createContext<App | null>(null);
export const AppProvider = Context.Provider;

export function useApp(): App {
  const app = useContext(Context);
  if (!app) throw new Error("a component stands outside the app");
  return app;
}
