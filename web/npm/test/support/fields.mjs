// @ts-check
// Every field that a request may have, each with a value that the types allow and the engine accepts.

/** @import { ChatRequest, CompletionRequest, OpenAIFields } from "../../dist/types.js" */

/**
 * The fields that the engine reads.
 *
 * @satisfies {Required<Omit<ChatRequest & CompletionRequest, keyof OpenAIFields | "signal" | "onPromptProgress" | "stream">>}
 */
export const READ = {
  messages: [{ role: "user", content: "a" }],
  prompt: "a",
  model: "any",
  add_generation_prompt: true,
  add_special_tokens: true,
  cache_salt: "s",
  chat_template_kwargs: {},
  continue_final_message: false,
  date: "2026-11-23",
  exact: true,
  frequency_penalty: 0,
  logit_bias: { 2: -100 },
  max_completion_tokens: 8,
  max_tokens: 8,
  min_p: 0,
  no_cache: false,
  now: 0,
  past_thinking: "keep",
  presence_penalty: 0,
  repetition_penalty: 1,
  seed: 1,
  split_special_tokens: false,
  stop: ["x"],
  temperature: 0,
  template_kwargs: {},
  tools: [],
  top_k: 1,
  top_p: 1,
};

/**
 * The fields that change nothing.
 *
 * @satisfies {Required<OpenAIFields> & { stream: boolean }}
 */
export const UNCHANGING = {
  metadata: { purpose: "test" },
  prompt_cache_key: "k",
  prompt_cache_retention: "24h",
  safety_identifier: "s",
  stream: false,
  stream_options: { include_usage: true },
  user: "u",
  best_of: 1,
  echo: false,
  function_call: "auto",
  functions: [],
  ignore_eos: false,
  logprobs: false,
  min_tokens: 0,
  modalities: ["text"],
  n: 1,
  parallel_tool_calls: true,
  response_format: { type: "text" },
  service_tier: "auto",
  store: false,
  suffix: "",
  tool_choice: "auto",
  top_logprobs: 0,
  verbosity: "medium",
};
