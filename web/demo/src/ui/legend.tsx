import type { Account } from "../state/conversation";
import { NAMES, ORIGINS, SOURCES } from "../cache/sources";

/** What the marks of a strip mean; with an account, how many tokens each stands for. */
export function Legend({ account }: { account?: Account }) {
  const shown = SOURCES.filter((source) => (account ? account.sources[source] > 0 : source !== "remote"));
  return (
    <ul class="legend" aria-label="Tokens by where they came from">
      {shown.map((source) => (
        <li key={source} title={`${NAMES[source]}: ${ORIGINS[source]}`}>
          <span class={`cell ${source}`} aria-hidden="true" />
          {NAMES[source]}
          {account && <b>{account.sources[source].toLocaleString("en")}</b>}
        </li>
      ))}
    </ul>
  );
}
