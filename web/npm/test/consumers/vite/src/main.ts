import { HeadstartError, type ChatCompletion, type Progress } from "headstart";
import { Headstart } from "headstart/worker";

const stages = new Set<Progress["stage"]>();

async function run(): Promise<{ answer: ChatCompletion; stages: string[] }> {
  const headstart = await Headstart.create({ model: "/model/", onProgress: ({ stage }) => stages.add(stage) });
  const answer = await headstart.chat.completions.create({ messages: [{ role: "user", content: "hello there" }], max_tokens: 8 });
  await headstart.dispose();
  return { answer, stages: [...stages] };
}

run().then(
  (result) => (document.body.dataset["result"] = JSON.stringify(result)),
  (error: unknown) => (document.body.dataset["result"] = JSON.stringify({ error: String(error), code: error instanceof HeadstartError && error.code })),
);
