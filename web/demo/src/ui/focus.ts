/** Puts the focus where a person goes on: the message box, or, where that would raise a keyboard over half the screen, the conversation. */
export function focusOn(): void {
  const touch = matchMedia("(hover: none)").matches;
  const place = (touch && document.querySelector<HTMLElement>(".transcript")) || document.getElementById("composer");
  place?.focus();
}

/** What a button does can take it away, and the focus with it: then a person goes on where they write. */
export function followButtons(): () => void {
  const onClick = ({ target }: MouseEvent) => {
    const button = target instanceof Element ? target.closest("button") : null;
    if (!button) return;
    setTimeout(() => {
      if (!button.isConnected && document.activeElement === document.body) focusOn();
    }, SETTLED_MS);
  };
  document.addEventListener("click", onClick);
  return () => document.removeEventListener("click", onClick);
}

/** After it a panel that takes the focus itself has it. */
const SETTLED_MS = 100;

/** The id of the button that opens a question for editing. */
export const editButton = (question: string): string => `edit-${question}`;
