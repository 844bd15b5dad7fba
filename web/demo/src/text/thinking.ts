// Splits an answer into the model's thinking and the answer itself. Pure.

export interface Parts {
  /** Empty if there is none. */
  thinking: string;
  /** Whether it has not ended. */
  open: boolean;
  answer: string;
}

const OPEN = "<think>";
const CLOSE = "</think>";

/** Thinking is at the beginning. Some templates write its opening tag, so the text has only the closing one. */
export function parts(text: string): Parts {
  const start = text.trimStart();
  const opened = start.startsWith(OPEN);
  if (!opened && start !== "" && OPEN.startsWith(start)) return { thinking: "", open: true, answer: "" };
  const end = start.indexOf(CLOSE);
  if (end < 0) return opened ? { thinking: withoutBegunClose(start.slice(OPEN.length)).trim(), open: true, answer: "" } : { thinking: "", open: false, answer: text };
  if (!opened && start.slice(0, end).includes(OPEN)) return { thinking: "", open: false, answer: text };
  return { thinking: start.slice(opened ? OPEN.length : 0, end).trim(), open: false, answer: start.slice(end + CLOSE.length).trimStart() };
}

/** A closing tag arrives in pieces, which are not part of the thinking. */
function withoutBegunClose(text: string): string {
  const at = text.lastIndexOf("<");
  return at >= 0 && CLOSE.startsWith(text.slice(at)) ? text.slice(0, at) : text;
}

export const words = (text: string): number => text.split(/\s+/).filter(Boolean).length;
