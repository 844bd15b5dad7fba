import { render } from "preact";
import { App, AppProvider } from "./state/app";
import { Shell } from "./ui/shell";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/conversation.css";
import "./styles/prose.css";
import "./styles/account.css";
import "./styles/model.css";
import "./styles/dialog.css";

const app = new App();
void app.start();
render(
  <AppProvider value={app}>
    <Shell />
  </AppProvider>,
  document.getElementById("app")!,
);
