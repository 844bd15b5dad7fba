// Prefills a prompt or a part of it, with other calls meanwhile: for a page and for Node.

/**
 * Requests an answer, and does `act`, "abort" (the stream) or "dispose", once its prompt has reported progress `after` times.
 * `read`: the tokens that were done each time, of which `further` came after `act`. `rounds`: how often at most both `tokenize`
 * and `prefix.stats` answered between two of them, where nothing ends the prompt.
 */
export async function readPrompt(headstart, { content, act, after, ...options }) {
  const read = [];
  let [further, round, rounds] = [0, 0, 0];
  let ended;
  const onPromptProgress = ({ done }) => {
    read.push(done);
    round = 0;
    if (ended) further++;
    else if (read.length === after) ended = act === "abort" ? Promise.resolve(stream.abort()) : headstart.dispose();
  };
  const messages = [{ role: "user", content }];
  const stream = await headstart.chat.completions.create({ ...options, messages, stream: true, onPromptProgress });
  let isReading = !act;
  const ask = async () => {
    while (isReading) {
      await headstart.tokenize("now");
      await headstart.prefix.stats();
      if (isReading) rounds = Math.max(rounds, ++round);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const asking = ask();
  let text = "";
  let last;
  let code;
  try {
    for await (last of stream) {
      isReading = false;
      text += last.choices[0].delta.content ?? "";
    }
  } catch (error) {
    code = error.code;
  }
  isReading = false;
  await Promise.all([asking, ended]);
  return { read, further, rounds, text, code, usage: last?.usage, finish: last?.headstart?.finish, sources: last?.headstart?.cache.sources };
}
