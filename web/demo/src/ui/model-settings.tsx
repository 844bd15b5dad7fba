// The models whose weights this browser keeps, with a button to delete each.

import { useEffect, useState } from "preact/hooks";
import { clearWeights, type KeptModel, listWeights } from "headstart/worker";
import { useApp } from "../state/app";
import { faultOf } from "../state/faults";
import { IconButton } from "./icons";
import { share, size } from "../text/size";

export function ModelSettings() {
  const { notices } = useApp();
  const [kept, setKept] = useState<readonly KeptModel[]>([]);
  const look = async () => setKept(await listWeights().catch(() => []));
  useEffect(() => void look(), []);

  const remove = async ({ source, name }: KeptModel) => {
    try {
      await clearWeights(source);
      notices.show({ text: `Deleted ${name} from this browser.` });
    } catch (thrown) {
      notices.show({ text: faultOf(thrown).title });
    }
    await look();
  };
  return (
    <section>
      <h3>Downloaded models</h3>
      {kept.length === 0 && <p class="hint">This browser keeps no models.</p>}
      {kept.length > 0 && (
        <ul class="held">
          {kept.map((model) => (
            <li key={model.source}>
              <span title={model.source}>{model.name}</span>
              <span class="numbers">
                {model.complete ? size(model.loaded) : `${model.size === undefined ? size(model.loaded) : share(model.loaded, model.size)} downloaded`}
              </span>
              <IconButton icon="trash" label={`Delete ${model.name}`} onClick={() => void remove(model)} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
