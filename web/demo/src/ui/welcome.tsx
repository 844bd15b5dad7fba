import { useApp } from "../state/app";
import { focusOn } from "./focus";
import { Legend } from "./legend";

const STARTERS = [
  "Explain what a prefix cache does, in three sentences.",
  "Write a short checklist for packing a bicycle repair kit.",
  "Compare tea and coffee in a small table.",
];

/** A conversation that has not begun. */
export function Welcome() {
  const { chat, drafts, library } = useApp();
  const begin = (text: string) => {
    chat.send(text);
    drafts.move(null, library.openId.value);
    focusOn();
  };
  return (
    <div class="welcome">
      <h2>What would you like to ask?</h2>
      <ul class="starters">
        {STARTERS.map((text) => (
          <li key={text}>
            <button type="button" class="starter" disabled={!chat.ready.value} onClick={() => begin(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
      <div class="primer">
        <p>
          A strip under each answer shows every token of its prompt. Tokens that were read before are not computed again, whether in this conversation, in another
          one, or before a reload:
        </p>
        <Legend />
      </div>
    </div>
  );
}
