// Under an answer: where its prompt came from, what that took and saved, and why the rest had to be computed.

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { count, duration } from "../cache/words";
import type { Account, Turn } from "../state/conversation";
import { Explanation } from "./explanation";
import { Icon } from "./icons";
import { Legend } from "./legend";
import { Strip } from "./strip";

export function AccountPanel(props: { account: Account; before: readonly Turn[]; children: ComponentChildren }) {
  const { account, before, children } = props;
  const [explains, setExplains] = useState(false);
  const panel = useId();
  const { timings, prompt_tokens, sources, savedMs } = account;
  const reused = prompt_tokens - sources.computed;
  const why = account.misses.length > 0 || account.divergence;
  return (
    <div class="account" role="group" aria-label="Where the prompt came from">
      <div class="figures-row">
      <dl class="figures">
        <Figure name="Reused" value={`${reused.toLocaleString("en")} of ${prompt_tokens.toLocaleString("en")}`} tip="Tokens of the prompt that were not computed again" />
        <Figure name="First token" value={duration(timings.ttft_ms)} tip="Time to first token: from sending to the first word" />
        {timings.decode_tok_s > 0 && <Figure name="Speed" value={`${timings.decode_tok_s.toFixed(1)} tokens/s`} tip={`${count(account.generated)} written`} />}
        {savedMs !== null && reused > 0 && (
          <Figure name="Saved" value={`≈ ${duration(savedMs)}`} tip="What computing the reused tokens would have taken, at the rate measured here" />
        )}
      </dl>
      {children}
      </div>
      <Strip account={account} before={before} marked={account.divergence?.token ?? null} />
      <div class="legend-row">
        <Legend account={account} />
        {why && (
          <button type="button" class="quiet explain" aria-expanded={explains} aria-controls={panel} onClick={() => setExplains(!explains)}>
            <Icon name="chevron" />
            Why {sources.computed.toLocaleString("en")} computed
          </button>
        )}
      </div>
      <div id={panel} hidden={!explains}>
        {explains && <Explanation account={account} />}
      </div>
    </div>
  );
}

function Figure({ name, value, tip }: { name: string; value: string; tip?: string }) {
  return (
    <div title={tip}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
