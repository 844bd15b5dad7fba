/** Moves the focus to the message box, or, on touch screens, to the conversation, since a keyboard would cover half the screen. */
export function focusOn(): void {
  const touch = matchMedia("(hover: none)").matches;
  const place = (touch && document.querySelector<HTMLElement>(".transcript")) || document.getElementById("composer");
  place?.focus();
}

/** An action can remove its button, and the focus with it. Then the focus moves to the message box. */
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

/** By then a panel that takes the focus itself has it. */
const SETTLED_MS = 100;

/** The id of the button that opens a question for editing. */
export const editButton = (question: string): string => `edit-${question}`;
