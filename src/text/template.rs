//! Chat templates: Jinja2 as Hugging Face transformers runs it, so that a model's own template gives the same prompt.
//!
//! Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), nothing is escaped, `raise_exception` and `strftime_now` are available,
//! and `python` holds what Jinja2 reads differently from minijinja. A template comes from outside: fuel bounds its work and
//! memory, so a hostile one ends in an error. The clock is a parameter; by default it is the system's, in UTC.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value as Jinja};
use serde_json::{Map, Value, json};

use super::brief::brief;
use super::message::{Content, Message};
use super::python;
use super::thinking::{self, PastThinking};
use crate::error::{Error, Result};

/// Limit on the instructions, and units of 64 bytes of data, of one rendering: enough for prompts of tens of megabytes.
const FUEL: u64 = 2_000_000;
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Limit on nested macro calls (four levels each) and loop rounds.
const MAX_RECURSION: usize = 200;
/// Bytes of stack for parsing and rendering: many times what the limits of `python` allow to be used.
#[cfg(not(target_arch = "wasm32"))]
const STACK: usize = 32 << 20;
/// How the error begins of a rendering that costs too much.
const ENDLESS: &str = "it does not come to an end";
const MAIN: &str = "chat_template";
const TOOL_USE: &str = "chat_template (tool_use)";

/// The special tokens a template may name: `bos_token`, `eos_token`, `unk_token`, `pad_token`, ...
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials(BTreeMap<String, String>);

impl Specials {
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, token: impl Into<String>) -> Self {
        self.0.insert(name.into(), token.into());
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The `*_token` entries of a tokenizer_config.json, each a string or an object with `content`.
    pub(crate) fn from_config(config: &Value) -> Self {
        let named = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
        let token = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
        Self(named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect())
    }
}

/// The variables that a template is rendered with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    pub messages: &'a [Message],
    /// A list of tools in the form of OpenAI's API.
    pub tools: Option<&'a Value>,
    pub documents: Option<&'a Value>,
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends where the last message ends, so that the answer continues it.
    pub continue_final_message: bool,
    /// Whether to keep or strip the thinking before the last question; by default the template decides.
    pub past_thinking: Option<PastThinking>,
    /// Whether control tokens spelt out in messages and tools are encoded as plain text.
    pub split_special_tokens: bool,
    /// Further variables (`enable_thinking`, ...); they override all others.
    pub extra: Option<&'a Map<String, Value>>,
    /// The time of `strftime_now`, in seconds since 1970; by default the template's clock.
    pub now: Option<i64>,
}

pub struct ChatTemplate {
    environment: Environment<'static>,
    specials: Specials,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    tool_use: bool,
    /// Computed on first use.
    typed_content: OnceLock<bool>,
    dated: bool,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("specials", &self.specials).finish_non_exhaustive()
    }
}

/// Marks an error of `raise_exception`, whose message the template wrote.
#[derive(Debug)]
struct Raised;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raise_exception")
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// Compiles a template. A syntax error names its line.
    pub fn new(source: &str, specials: Specials) -> Result<Self> {
        let mut template = Self {
            environment: environment(),
            specials,
            clock: Arc::new(system_clock),
            tool_use: false,
            typed_content: OnceLock::new(),
            dated: false,
        };
        template.add(MAIN, source)?;
        Ok(template)
    }

    /// Takes the template of a model directory: `jinja_file` (chat_template.jinja) if given, else `chat_template` of
    /// tokenizer_config.json, which is a string or a list of `{name, template}` (`default`, `tool_use`).
    pub fn from_config(config: &Value, jinja_file: Option<&str>) -> Result<Self> {
        let specials = Specials::from_config(config);
        let sources = match &config["chat_template"] {
            _ if jinja_file.is_some() => vec![("default", jinja_file.unwrap_or_default())],
            Value::String(source) => vec![("default", source.as_str())],
            Value::Array(list) => {
                list.iter().filter_map(|entry| Some((entry["name"].as_str()?, entry["template"].as_str()?))).collect()
            }
            _ => Vec::new(),
        };
        let named = |name: &str| sources.iter().find(|source| source.0 == name).map(|source| source.1);
        let main = named("default").or_else(|| sources.first().map(|source| source.1)).ok_or_else(Self::missing)?;
        let template = Self::new(main, specials)?;
        match named("tool_use") {
            Some(source) => template.with_tool_use(source),
            None => Ok(template),
        }
    }

    /// The error for a model without a template.
    pub(crate) fn missing() -> Error {
        Error::Template {
            problem: "the model has none, so it cannot be chatted with; `headstart generate --raw` gives it the text as it is".into(),
        }
    }

    /// Adds a second template, used if tools are given.
    pub(crate) fn with_tool_use(mut self, source: &str) -> Result<Self> {
        self.add(TOOL_USE, source)?;
        self.tool_use = true;
        Ok(self)
    }

    /// Sets the clock of `strftime_now`, in seconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, seconds: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(seconds);
        self
    }

    /// The template's clock, in seconds since 1970.
    pub fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Whether the template reads the time, so that its prompts may differ from day to day.
    pub fn is_dated(&self) -> bool {
        self.dated
    }

    /// Whether a template's source contains this text.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.environment.templates().any(|(_, template)| template.source().contains(text))
    }

    /// The prompt of a conversation.
    pub fn render(&self, messages: &[Message], tools: Option<&Value>, add_generation_prompt: bool) -> Result<String> {
        self.render_inputs(&Inputs { messages, tools, add_generation_prompt, ..Inputs::default() })
    }

    /// The prompt of a conversation, with every input that a template may have.
    pub fn render_inputs(&self, inputs: &Inputs) -> Result<String> {
        match inputs.continue_final_message {
            true => self.render_open(inputs),
            false => self.render_as(inputs, self.wants_typed_content()),
        }
    }

    /// The prompt up to the end of the last message. As in transformers, spaces at that end stay if the template keeps a
    /// message's trailing spaces.
    fn render_open(&self, inputs: &Inputs) -> Result<String> {
        const END: &str = "end-of-message-probe ";
        let wrong = |problem: &str| Error::Template { problem: format!("the final message {problem}") };
        let mut messages = inputs.messages.to_vec();
        match messages.last_mut().map(|message| &mut message.content) {
            Some(Content::Text(text)) => text.push_str(END),
            Some(Content::Parts(parts)) if !parts.is_empty() => {
                parts.last_mut().into_iter().for_each(|part| part.push_str(END))
            }
            _ => return Err(wrong("has no text to be continued")),
        }
        let inputs = Inputs { messages: &messages, add_generation_prompt: false, ..*inputs };
        let text = self.render_as(&inputs, self.wants_typed_content())?;
        let end = text
            .rfind(END.trim_end())
            .ok_or_else(|| wrong("is not shown by the template, so nothing can continue it"))?;
        let open = if text[end..].starts_with(END) { &text[..end] } else { text[..end].trim_end() };
        Ok(open.to_owned())
    }

    /// The token after an assistant's turn, chosen among `tokens`, if the template puts one there.
    pub(crate) fn end_of_turn<'a>(&self, tokens: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        const ASKED: &str = "question-probe";
        const ANSWERED: &str = "answer-probe";
        let turns = [Message::new("user", ASKED), Message::new("assistant", ANSWERED), Message::new("user", ASKED)];
        // Some templates close a turn only if another follows.
        [2, 3].into_iter().find_map(|count| {
            let text = self.render(&turns[..count], None, false).ok()?;
            let behind = text.rsplit_once(ANSWERED)?.1.split(ASKED).next()?;
            let known = tokens.clone().filter(|token| !token.is_empty());
            let found = known.filter_map(|token| Some((behind.find(token)?, token)));
            found.min_by_key(|(at, token)| (*at, Reverse(token.len()))).map(|(_, token)| token)
        })
    }

    /// One sentence for each way in which the prompt may differ from what the caller expects.
    pub(crate) fn warnings(&self, inputs: &Inputs) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.drops_tools(inputs) {
            warnings.push("the chat template does not show tools, so the model knows of none".to_owned());
        }
        if inputs.past_thinking == Some(PastThinking::Keep) && self.drops_thinking(inputs) {
            warnings.push(
                "the chat template drops the thinking before the last question, and has no variable to keep it"
                    .to_owned(),
            );
        }
        let ended = inputs.messages.last().is_some_and(|message| message.role == "assistant");
        if ended && inputs.add_generation_prompt && !inputs.continue_final_message {
            let advice = "with continue_final_message the answer goes on with it";
            warnings.push(format!("the last message is the assistant's, and the answer begins a new turn; {advice}"));
        }
        warnings
    }

    /// Whether a past turn has thinking that the prompt does not show.
    fn drops_thinking(&self, inputs: &Inputs) -> bool {
        const PROBE: &str = "thinking-probe";
        let mut thought = Message::new("assistant", "answer");
        thought.other.insert("reasoning_content".into(), PROBE.into());
        let messages = [Message::new("user", "question"), thought, Message::new("user", "question")];
        let shown = self.render_inputs(&Inputs { messages: &messages, tools: None, ..*inputs });
        inputs.messages.iter().any(thinking::thinks) && shown.is_ok_and(|prompt| !prompt.contains(PROBE))
    }

    /// Whether other tools give the same prompt.
    pub(crate) fn drops_tools(&self, inputs: &Inputs) -> bool {
        let function = |name: &str| json!([{ "type": "function", "function": { "name": name, "description": name } }]);
        let Some(Value::Array(tools)) = inputs.tools else { return false };
        let now = Some(inputs.now.unwrap_or_else(|| self.now()));
        let render = |tools: &Value| self.render_inputs(&Inputs { tools: Some(tools), now, ..*inputs }).ok();
        let other = [function("tools-probe"), json!(["tools-probe"]), json!([{ "tools-probe": null }])];
        !tools.is_empty() && {
            let own = render(&Value::Array(tools.clone()));
            other.iter().all(|other| render(other).is_none_or(|prompt| Some(prompt) == own))
        }
    }

    fn render_as(&self, inputs: &Inputs, typed: bool) -> Result<String> {
        on_own_stack(|| self.render_here(inputs, typed))
    }

    fn render_here(&self, inputs: &Inputs, typed: bool) -> Result<String> {
        let tools = inputs.tools.filter(|tools| tools.as_array().is_none_or(|list| !list.is_empty()));
        let name = if self.tool_use && tools.is_some() { TOOL_USE } else { MAIN };
        let messages = inputs.messages.iter().enumerate().map(|(index, message)| {
            let stripped = inputs.past_thinking.and_then(|thinking| thinking.stripped(inputs.messages, index));
            to_jinja(&stripped.as_ref().unwrap_or(message).to_value(typed))
        });
        let optional = |value: Option<&Value>| value.map_or_else(|| Jinja::from(()), to_jinja);
        let mut variables: BTreeMap<&str, Jinja> =
            self.specials.0.iter().map(|(name, token)| (name.as_str(), Jinja::from(token.as_str()))).collect();
        let now = inputs.now.unwrap_or_else(|| self.now());
        let strftime_now = Jinja::from_function(move |format: &str| python::strftime(format, now));
        variables.insert("strftime_now", strftime_now);
        variables.insert("messages", messages.collect());
        variables.insert("tools", optional(tools));
        variables.insert("documents", optional(inputs.documents));
        variables.insert("add_generation_prompt", Jinja::from(inputs.add_generation_prompt));
        variables
            .extend(inputs.past_thinking.into_iter().flat_map(PastThinking::variables).map(|(n, v)| (n, v.into())));
        variables.extend(inputs.extra.into_iter().flatten().map(|(name, value)| (name.as_str(), to_jinja(value))));
        let template = self.environment.get_template(name).map_err(explain)?;
        template.render(Jinja::from_pairs(variables)).map_err(explain)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<()> {
        if source.len() > MAX_SOURCE_BYTES {
            let problem = format!("{} bytes, more than the {MAX_SOURCE_BYTES} allowed", source.len());
            return Err(Error::Template { problem });
        }
        self.dated |= source.contains("strftime_now");
        let dialect = python::to_dialect(source).map_err(|problem| Error::Template { problem })?;
        on_own_stack(|| self.environment.add_template_owned(name, dialect).map_err(explain))
    }

    /// Whether the template shows the text of a list of parts but not that of a plain string, as templates of vision models
    /// may.
    fn wants_typed_content(&self) -> bool {
        const PROBE: &str = "content-probe";
        let messages = [Message::new("user", PROBE)];
        let inputs = Inputs { messages: &messages, ..Inputs::default() };
        let render = |typed| self.render_as(&inputs, typed);
        *self.typed_content.get_or_init(|| match render(false) {
            Ok(prompt) if prompt.contains(PROBE) => false,
            Err(Error::Template { problem }) if problem.starts_with(ENDLESS) => false,
            _ => render(true).is_ok_and(|prompt| prompt.contains(PROBE)),
        })
    }
}

/// Runs `work` on a stack of known size, and turns a panic into an error. The web has one stack and cannot catch a panic, so
/// the limits of `python` alone protect it.
#[cfg(not(target_arch = "wasm32"))]
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |problem: &str| Error::Template { problem: problem.into() };
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let ended = started.map_err(|_| failed("the system has no thread left to render it"))?.join();
        ended.unwrap_or_else(|_| Err(failed("rendering it panicked; the model's template is broken")))
    })
}

#[cfg(target_arch = "wasm32")]
fn on_own_stack<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    python::add_to(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment
}

/// Parses a time for `strftime_now`: `2026-11-23`, `2026-11-23T10:15` or `2026-11-23T10:15:30`, in UTC. Returns seconds since
/// 1970.
///
/// # Errors
/// [`Error::Request`] for another form, or a day that does not exist.
pub fn parse_time(text: &str) -> Result<i64> {
    python::parse_time(text).ok_or_else(|| Error::Request {
        field: "date",
        problem: format!("{text:?} is no date; write it as 2026-11-23 or 2026-11-23T10:15:30"),
    })
}

fn system_clock() -> i64 {
    let now = web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() as i64)
}

fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Jinja::from(value),
            (None, Some(value)) => Jinja::from(value),
            (None, None) => Jinja::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(list) => list.iter().map(to_jinja).collect(),
        Value::Object(map) => Jinja::from_pairs(map.iter().map(|(key, value)| (key.as_str(), to_jinja(value)))),
    }
}

/// Turns a template's error into a sentence with its line.
fn explain(error: minijinja::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(raised) = at.downcast_ref::<minijinja::Error>()
            && std::error::Error::source(raised).is_some_and(|source| source.is::<Raised>())
        {
            let problem = format!("it refuses these messages: {}", brief(raised.detail().unwrap_or("no reason given")));
            return Error::Template { problem };
        }
        cause = at.source();
    }
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::OutOfFuel => format!("{ENDLESS}{line}; the model's template is broken"),
        ErrorKind::SyntaxError => format!("syntax error{line}: {}", error.detail().unwrap_or("unknown")),
        kind => match error.detail() {
            Some(detail) => format!("{kind}{line}: {detail}"),
            None => format!("{kind}{line}"),
        },
    };
    Error::Template { problem: brief(&problem) }
}
