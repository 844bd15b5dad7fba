/**
 * Fields of OpenAI's API that change nothing here.
 *
 * They are accepted so that requests written for other servers run. Some are notes for a server. Each of the others has a single
 * meaning that this package can keep, and its type allows only the values with that meaning.
 */

export interface OpenAIFields {
  metadata?: Record<string, string> | null;
  prompt_cache_key?: string | null;
  prompt_cache_retention?: string | null;
  safety_identifier?: string | null;
  /** The last chunk of a stream always has `usage`. */
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  user?: string | null;

  best_of?: 1 | null;
  echo?: false | null;
  /** `none` only without tools. */
  function_call?: "auto" | "none" | null;
  /** The older name of `tools`, which takes the tools. */
  functions?: readonly [] | null;
  ignore_eos?: false | null;
  logprobs?: false | null;
  min_tokens?: 0 | null;
  modalities?: readonly "text"[] | null;
  n?: 1 | null;
  parallel_tool_calls?: true | null;
  response_format?: { type: "text" } | null;
  service_tier?: "auto" | "default" | null;
  store?: false | null;
  suffix?: "" | null;
  /** `none` only without tools. */
  tool_choice?: "auto" | "none" | null;
  top_logprobs?: 0 | null;
  verbosity?: "medium" | null;
}
