import { useApp } from "../state/app";
import type { Theme } from "../state/settings";
import { IconButton } from "./icons";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const ICONS = { system: "screen", light: "sun", dark: "moon" } as const;

export function Header() {
  const app = useApp();
  const { theme } = app.settings.choices.value;
  const toggle = () => {
    app.sidebarOpen.value = true;
    requestAnimationFrame(() => document.querySelector<HTMLElement>(".sidebar button")?.focus());
  };
  return (
    <header class="header">
      <IconButton icon="menu" label="Conversations" class="only-narrow" expanded={app.sidebarOpen.value} onClick={toggle} />
      <h1>{app.library.open.value?.title ?? "New conversation"}</h1>
      <IconButton
        icon={ICONS[theme]}
        label={`Theme: ${theme}. Switch to ${NEXT[theme]}`}
        onClick={() => app.settings.change({ theme: NEXT[theme] })}
      />
      <IconButton icon="gear" label="Settings" onClick={() => (app.settingsOpen.value = true)} />
    </header>
  );
}
