import { Headstart } from "/node_modules/headstart/dist/worker.js";

const stages = new Set();

async function run() {
  const headstart = await Headstart.create({ model: "/model/", onProgress: ({ stage }) => stages.add(stage) });
  const answer = await headstart.chat.completions.create({ messages: [{ role: "user", content: "hello there" }], max_tokens: 8 });
  await headstart.dispose();
  return { answer, stages: [...stages] };
}

run().then(
  (result) => (document.body.dataset.result = JSON.stringify(result)),
  (error) => (document.body.dataset.result = JSON.stringify({ error: String(error), code: error.code })),
);
