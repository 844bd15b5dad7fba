// The page: the list of conversations at the side, the open one in the middle, and overlays.

import { useEffect } from "preact/hooks";
import { useApp } from "../state/app";
import { Announcer } from "./announcer";
import { Composer } from "./composer";
import { DropZone } from "./drop-zone";
import { followButtons } from "./focus";
import { Header } from "./header";
import { ModelPanel } from "./model-panel";
import { NoticeBar } from "./notice-bar";
import { SettingsDialog } from "./settings-dialog";
import { Sidebar } from "./sidebar";
import { Transcript } from "./transcript";
import { Welcome } from "./welcome";

export function Shell() {
  const app = useApp();
  const { chat, library, model } = app;
  const covered = app.sidebarOpen.value;

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
      if (app.sidebarOpen.value) app.sidebarOpen.value = false;
      else if (app.choosing.value && model.phase.value.name === "ready") app.choosing.value = false;
      else chat.stop();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);

  useEffect(followButtons, []);

  const open = library.open.value;
  useEffect(() => {
    document.title = open ? `${open.title} · headstart` : "headstart";
  }, [open?.title]);
  const ready = model.phase.value.name === "ready";
  return (
    <div class="shell">
      <a class="skip" href="#composer">
        Skip to the message box
      </a>
      <Sidebar />
      {covered && <div class="shade" onClick={() => (app.sidebarOpen.value = false)} />}
      <main inert={covered}>
        <Header />
        <ModelPanel />
        {library.loaded.value && (open ? <Transcript key={open.id} conversation={open} /> : ready ? <Welcome /> : <div class="filler" />)}
        <NoticeBar />
        <Composer />
      </main>
      <DropZone />
      <SettingsDialog />
      <Announcer />
    </div>
  );
}
