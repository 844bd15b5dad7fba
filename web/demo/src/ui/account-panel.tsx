// One line under an answer shows how much of its prompt was reused. Unfolded, it shows the source of each token, the time that was taken
// and saved, and why the rest was computed.

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { runs } from "../cache/strip";
import { count, duration } from "../cache/words";
import type { Account, Turn } from "../state/conversation";
import { Explanation } from "./explanation";
import { Icon } from "./icons";
import { Legend } from "./legend";
import { Strip } from "./strip";

export function AccountPanel(props: { account: Account; before: readonly Turn[]; children: ComponentChildren }) {
  const { account, before, children } = props;
  const [open, setOpen] = useState(false);
  const panel = useId();
  const reused = account.prompt_tokens - account.sources.computed;
  return (
    <div class="account" role="group" aria-label="Where the prompt came from">
      <div class="gist-row">
        <button type="button" class="quiet gist" aria-expanded={open} aria-controls={panel} onClick={() => setOpen(!open)}>
          <Icon name="chevron" />
          <span class="gist-bar" aria-hidden="true">
            {runs(account).map(({ source, tokens }, index) => (
              <i key={index} class={`cell ${source}`} style={{ flexGrow: tokens }} />
            ))}
          </span>
          <span>
            {reused.toLocaleString("en")} of {count(account.prompt_tokens)} reused
          </span>
        </button>
        {children}
      </div>
      <div id={panel} hidden={!open}>
        {open && <Details account={account} before={before} reused={reused} />}
      </div>
    </div>
  );
}

function Details({ account, before, reused }: { account: Account; before: readonly Turn[]; reused: number }) {
  const [explains, setExplains] = useState(false);
  const panel = useId();
  const { timings, prompt_tokens, sources, savedMs } = account;
  const why = account.misses.length > 0 || account.divergence;
  return (
    <>
      <dl class="figures">
        <Figure name="Reused" value={`${reused.toLocaleString("en")} of ${prompt_tokens.toLocaleString("en")}`} tip="Tokens of the prompt that were not computed again" />
        <Figure name="First token" value={duration(timings.ttft_ms)} tip="Time to first token: from sending to the first word" />
        {timings.decode_tok_s > 0 && <Figure name="Speed" value={`${timings.decode_tok_s.toFixed(1)} tokens/s`} tip={`${count(account.generated)} written`} />}
        {savedMs !== null && reused > 0 && (
          <Figure name="Saved" value={`≈ ${duration(savedMs)}`} tip="What computing the reused tokens would have taken, at the rate measured here" />
        )}
      </dl>
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
    </>
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
