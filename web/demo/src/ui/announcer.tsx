// The one live region: says when an answer begins and ends, never each word of it.

import { useApp } from "../state/app";

export function Announcer() {
  const { notices } = useApp();
  return (
    <div class="visually-hidden" role="status" aria-live="polite">
      {notices.spoken}
    </div>
  );
}
