// Answers turns of a conversation in its own process: `node turns.mjs OPTIONS QUESTION…`. OPTIONS are JSON for `create`,
// with the earlier conversation in `messages`. Prints the results as JSON, and ends when Node has nothing left to do.
import { Headstart } from "headstart/node";

const [{ messages, ...options }, ...questions] = process.argv.slice(2).map((text, at) => (at === 0 ? JSON.parse(text) : text));
const stages = new Set();
const headstart = await Headstart.create({ ...options, onProgress: ({ stage }) => stages.add(stage) });
const answers = [];
for (const content of questions) {
  messages.push({ role: "user", content });
  const stream = await headstart.chat.completions.create({ messages, max_tokens: 8, stream: true });
  let text = "";
  let last;
  for await (last of stream) text += last.choices[0].delta.content ?? "";
  messages.push({ role: "assistant", content: text });
  answers.push({ text, usage: last.usage, sources: last.headstart.cache.sources });
}
const { store } = await headstart.prefix.stats();
const { model, weightsDigest: digest } = headstart;
await headstart.dispose();
const globals = ["Window", "window"].filter((name) => name in globalThis);
if (globalThis.navigator && "gpu" in globalThis.navigator) globals.push("navigator.gpu");
console.log(JSON.stringify({ answers, messages, store, stages: [...stages], globals, model, digest }));
