//! The explainer as a person meets it: real templates and a real tokenizer, conversations that were changed in one place.
//!
//! Each change is put to two judges that must agree: two files side by side, and a cache that knows the first prompt and
//! is asked for the second.

mod cuts;
mod faces;
mod live;
mod pair_table;
mod pairs;
mod prompt_table;
mod said;
mod table;

use headstart::engine::{explain::Conversation, language};
use headstart::kv::{AdmitOptions, Cache, CacheConfig, Fields, Namespace, Producer, Report};
use headstart::text::{ChatTemplate, Inputs, Message, Specials, Tokenizer, parse_time};
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};
use std::sync::OnceLock;

use crate::support::model_path;

/// As the Llama 3.2 templates do: today's date in the system text, tools in the first question, one call a message.
pub const LLAMA: &str = r#"{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\nToday Date: " + date_string + "\n\n" }}
{{- system_message + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- if messages | length == 0 %}{{- raise_exception("no first user message") }}{%- endif %}
    {%- set first_user_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
    {{- "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a" }}
    {{- " function call with its proper arguments that best answers the given prompt.\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {{- message.content + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"#;

/// As Qwen's templates do: tools behind the system text, in the same message.
pub const QWEN: &str = r#"{%- if tools %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + "\n\n# Tools\n\nYou may call these functions:\n<tools>" }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages[1:] %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SmolLM2's own.
    ChatMl,
    Llama,
    Qwen,
}

pub fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| language::tokenizer(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap())
}

fn template(kind: Kind) -> ChatTemplate {
    let given = |source| ChatTemplate::new(source, Specials::default().with("bos_token", "<|im_start|>")).unwrap();
    match kind {
        Kind::ChatMl => language::template(&block_on(Checkpoint::open(&model_path())).unwrap()).unwrap(),
        Kind::Llama => given(LLAMA),
        Kind::Qwen => given(QWEN),
    }
}

/// A prompt under its namespace, of a request as OpenAI's API has it; `model` stands for the weights.
pub fn side(kind: Kind, request: &Value) -> (Namespace, Conversation) {
    let messages = Message::list(&request["messages"]).unwrap();
    let now = request["date"].as_str().map(|date| parse_time(date).unwrap());
    let tools = Some(&request["tools"]).filter(|tools| tools.is_array());
    let inputs = Inputs { messages: &messages, tools, now, add_generation_prompt: true, ..Inputs::default() };
    let conversation = Conversation::new(&template(kind), tokenizer(), &inputs).unwrap();
    let field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let fields = Fields { weights: field("model"), salt: field("cache_salt"), ..Fields::default() };
    (Namespace::new(fields), conversation)
}

/// Computes a prompt, or what was generated behind one, and lets it go.
pub fn learn(cache: &mut Cache, namespace: &Namespace, tokens: &[u32]) {
    let admission = cache.admit(namespace, tokens, &AdmitOptions::default()).unwrap();
    let mut table = admission.table;
    cache.append(&mut table, tokens.len() - admission.cached_tokens).unwrap();
    cache.publish(&mut table, &tokens[admission.cached_tokens..], Producer::Prefill);
    cache.release(table);
}

/// What a cache that has seen `known` reports of a prompt, as the engine does for a request that asks.
pub fn report(known: (&Namespace, &[u32]), prompt: (&Namespace, &[u32])) -> Report {
    let mut cache = Cache::new(CacheConfig { capacity: 400, ..CacheConfig::default() });
    // Another conversation that begins alike, so that there is a choice.
    learn(&mut cache, known.0, &[&known.1[..2], &[7; 40]].concat());
    learn(&mut cache, known.0, known.1);
    let options = AdmitOptions { across_salts: true, ..AdmitOptions::default() };
    let admission = cache.admit(prompt.0, prompt.1, &options).unwrap();
    let mut report = admission.report;
    if let Some(at) = report.first_divergent {
        report.known = cache.known_continuation(prompt.0, prompt.1, at, prompt.1.len() + 1024);
    }
    cache.release(admission.table);
    report
}

pub fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// A tool with two parameters.
pub fn tool(name: &str, what: &str) -> Value {
    json!({
        "type": "function",
        "function": {
            "name": name,
            "description": what,
            "parameters": {
                "type": "object",
                "properties": { "query": { "type": "string" }, "limit": { "type": "integer", "maximum": 10 } },
                "required": ["query"],
            },
        },
    })
}

const RULES: &str = "Answer in full sentences, never guess, and name the shelf of every book that you speak of.\n\
                     Books in the cellar are fetched within the hour, so tell the reader to wait in the hall.\n\
                     Readers may keep a book for four weeks and may not lend it to anybody else.";

/// What most changes start from. Llama's has a call of a tool and its result.
pub fn base(kind: Kind) -> Value {
    let system =
        format!("You are the clerk of a library. It is 2026-11-23 10:35, the reader is Ada, number 4711.\n{RULES}");
    let mut messages =
        vec![message("system", &system), message("user", "On which shelf does the book on whales stand? 🐋")];
    if kind == Kind::Llama {
        let call = json!({ "id": "c1", "type": "function",
            "function": { "name": "search", "arguments": { "query": "whales", "limit": 3 } } });
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
        messages
            .push(json!({ "role": "tool", "tool_call_id": "c1", "content": "shelf 12, two copies, one of them lent" }));
    }
    messages.push(message("assistant", "It stands on shelf twelve; one of the two copies is there at the moment."));
    messages.push(message("user", "Please put it aside for me until Friday, and tell me about the one on ships."));
    let mut request = json!({ "model": "one.gguf", "messages": messages });
    if kind != Kind::ChatMl {
        request["tools"] = json!([
            tool("search", "Finds books by words of their titles and says where they stand."),
            tool("mail", "Sends a letter to a reader, whose address it looks up by itself."),
        ]);
        request["date"] = "2026-11-23".into();
    }
    request
}
