// The list of conversations, and the open model. On narrow screens it overlays the page.

import { useApp } from "../state/app";
import { ConversationItem } from "./conversation-item";
import { focusOn } from "./focus";
import { Icon, IconButton } from "./icons";
import { ModelStatus } from "./model-status";

export function Sidebar() {
  const app = useApp();
  const { library } = app;
  const shown = app.sidebarOpen.value;
  const begin = () => {
    library.select(null);
    app.sidebarOpen.value = false;
    focusOn();
  };
  return (
    <aside class={`sidebar ${shown ? "shown" : ""}`} aria-label="Conversations">
      <div class="brand">
        <span class="wordmark">headstart</span>
        <IconButton icon="close" label="Close conversations" class="only-narrow" onClick={() => (app.sidebarOpen.value = false)} />
      </div>
      <button type="button" class="button wide" onClick={begin}>
        <Icon name="plus" />
        New conversation
      </button>
      <nav aria-label="Kept conversations">
        {library.conversations.value.length === 0 && library.loaded.value && (
          <p class="hint">Conversations you begin are listed here. They stay in this browser.</p>
        )}
        <ul>
          {library.conversations.value.map((conversation) => (
            <ConversationItem key={conversation.id} conversation={conversation} />
          ))}
        </ul>
      </nav>
      <ModelStatus />
    </aside>
  );
}
