/** Puts the focus where a person goes on: the message box, or, where that would raise a keyboard over half the screen, the conversation. */
export function focusOn(): void {
  const touch = matchMedia("(hover: none)").matches;
  const place = (touch && document.querySelector<HTMLElement>(".transcript")) || document.getElementById("composer");
  place?.focus();
}

/** The id of the button that opens a question for editing. */
export const editButton = (question: string): string => `edit-${question}`;
