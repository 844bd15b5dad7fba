// The live region. It announces when an answer begins and ends, but not each word.

import { useApp } from "../state/app";

export function Announcer() {
  const { notices } = useApp();
  return (
    <div class="visually-hidden" role="status" aria-live="polite">
      {notices.spoken}
    </div>
  );
}
