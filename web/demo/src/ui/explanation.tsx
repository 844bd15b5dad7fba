// Why tokens of a prompt were computed. If the prompt differs from a known one, both texts at that place.

import type { Divergence } from "headstart";
import { advice, changeName, count, divergenceOwner, needed, why } from "../cache/words";
import type { Account } from "../state/conversation";

export function Explanation({ account }: { account: Account }) {
  const { misses, divergence, system } = account;
  return (
    <div class="explanation">
      <ul>
        {misses.map((miss) => (
          <li key={miss.from}>{why(miss)}</li>
        ))}
        {needed(account) > 0 && <li>{count(needed(account))} to begin the answer.</li>}
      </ul>
      {divergence ? (
        <Parting found={divergence} system={system.trim() !== ""} />
      ) : (
        misses.some(({ reason }) => reason === "cold") && <p class="muted">From now on they are known. A later prompt with the same beginning reuses them.</p>
      )}
    </div>
  );
}

function Parting({ found, system }: { found: Divergence; system: boolean }) {
  return (
    <>
      <p>
        Differs from the known prompt at <b>token {found.token + 1}</b>, in <b>{divergenceOwner(found, system)}</b>. {changeName(found)}
      </p>
      <dl class="sides">
        <div>
          <dt>Known</dt>
          <dd>
            <Side shared={found.shared} own={found.known} kind="known" />
          </dd>
        </div>
        <div>
          <dt>This prompt</dt>
          <dd>
            <Side shared={found.shared} own={found.prompt} kind="new" />
          </dd>
        </div>
      </dl>
      <p class="advice">{advice(found)}</p>
    </>
  );
}

function Side({ shared, own, kind }: { shared: string; own: string; kind: "known" | "new" }) {
  return (
    <code>
      {shared && <span class="shared">…{visible(shared)}</span>}
      <mark class={kind}>{visible(own) || "(the end)"}</mark>
    </code>
  );
}

const visible = (text: string): string => text.replaceAll("\n", "↵");
