//! Compares two requests as their authors wrote them: finds every difference, says what to do about it, and puts both in order.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::engine::{language::Language, openai::Input};
use crate::error::Result;
use crate::kv::{Change, DivergenceKind, MOVES_TEXT, Namespace, Owner, PAGE};
use crate::text::{Inputs, Message, Prompt, Tokenizer};

use super::differences::{Difference, calls, of_messages, of_tools};
use super::mend::{Mended, Mending, Variables, mend, pin_date, says_the_same};
use super::turns::Turns;
use super::{Conversation, Explanation, explain, text};

/// A request, and the prompt that the model reads for it.
pub struct Side<'a> {
    language: &'a Language,
    namespace: Namespace,
    request: &'a Value,
    prompt: Option<Prompt>,
    now: Option<i64>,
    /// The prompt, with the author of each token.
    pub conversation: Conversation,
}

impl<'a> Side<'a> {
    /// `request` as [`Input::read`] takes it. `now`: what its template takes for now if the request names no date, in seconds since
    /// 1970.
    ///
    /// # Errors
    /// As [`Input::read`] and [`Language::conversation`].
    pub fn new(language: &'a Language, namespace: Namespace, request: &'a Value, now: Option<i64>) -> Result<Self> {
        let input = read(request, now)?;
        let conversation = language.conversation(&input)?;
        let prompt = match input {
            Input::Conversation(prompt) => Some(*prompt),
            Input::Text(_) | Input::Exactly(_) | Input::Tokens(_) => None,
        };
        Ok(Self { language, namespace, request, prompt, now, conversation })
    }

    /// The first token that the template makes of today's date, where the request names none.
    pub fn date_token(&self) -> Option<usize> {
        let named = |name: &str| self.request.get(name).is_some_and(|value| !value.is_null());
        self.conversation.dated().filter(|_| !named("date") && !named("now"))
    }

    /// The prompt of another request to the same model.
    fn tokens(&self, request: &Value) -> Result<Vec<u32>> {
        self.language.tokens(&read(request, self.now)?)
    }

    fn rendered(&self, request: &Value) -> Option<String> {
        let prompt = Prompt::read(request).ok()?;
        let inputs = prompt.inputs();
        self.language.template().ok()?.render_inputs(&Inputs { now: inputs.now.or(self.now), ..inputs }).ok()
    }

    fn tools(&self) -> &[Value] {
        let tools = self.prompt.as_ref().and_then(|prompt| prompt.tools.as_ref()).and_then(Value::as_array);
        tools.map_or(&[], Vec::as_slice)
    }

    fn drops_tools(&self) -> bool {
        let template = self.language.template().ok();
        template.zip(self.prompt.as_ref()).is_some_and(|(template, prompt)| template.drops_tools(&prompt.inputs()))
    }

    fn messages(&self) -> &[Message] {
        self.prompt.as_ref().map_or(&[], |prompt| &prompt.messages)
    }

    /// The first token of an owner's text.
    fn place(&self, owner: &Owner) -> Option<usize> {
        let spans = self.conversation.spans.iter();
        spans.filter(|span| span.owner == *owner).map(|span| span.tokens.start).min()
    }

    /// Where the last message ends, and the opening of the answer begins.
    fn last_message(&self) -> usize {
        let spans = self.conversation.spans.iter().filter(|span| matches!(span.owner, Owner::Message { .. }));
        spans.map(|span| span.tokens.end).max().unwrap_or(self.conversation.tokens.len())
    }

    /// The line of the prompt that a token is in, of the message or tool that it belongs to.
    fn line(&self, token: usize) -> String {
        let spans = self.conversation.spans.iter().filter(|span| !matches!(span.owner, Owner::Template { .. }));
        let spans = spans.map(|span| span.tokens.clone());
        let owner = spans.filter(|span| span.contains(&token)).min_by_key(Range::len);
        line(&self.language.tokenizer, &self.conversation.tokens, token, owner)
    }

    /// The first message with calls that the template does not show.
    fn dropped_calls(&self) -> Option<(usize, String)> {
        let messages = self.messages();
        let first = messages.iter().position(|message| !message.tool_calls.is_empty())?;
        let prompt = self.prompt.as_ref()?;
        let silent = |message: &Message| Message { tool_calls: Vec::new(), ..message.clone() };
        let silent: Vec<Message> = messages.iter().map(silent).collect();
        let template = self.language.template().ok()?;
        let inputs = Inputs { now: prompt.now.or(self.now), ..prompt.inputs() };
        let shown = template.render_inputs(&inputs).ok()?
            != template.render_inputs(&Inputs { messages: &silent, ..inputs }).ok()?;
        (!shown).then(|| (first, calls(&messages[first])))
    }
}

/// The line that a token is in; no more of it than `within` has, if given.
fn line(tokenizer: &Tokenizer, tokens: &[u32], token: usize, within: Option<Range<usize>>) -> String {
    let token = token.min(tokens.len());
    let Range { start, end } = within.unwrap_or(0..tokens.len());
    let (before, behind) = (text(tokenizer, &tokens[start..token]), text(tokenizer, &tokens[token..end]));
    let start = before.rsplit('\n').next().unwrap_or_default();
    format!("{start}{}", behind.split('\n').next().unwrap_or_default())
}

fn read(request: &Value, now: Option<i64>) -> Result<Input> {
    let mut input = Input::read(request)?;
    if let Input::Conversation(prompt) = &mut input {
        prompt.now = prompt.now.or(now);
    }
    Ok(input)
}

/// The comparison of two requests.
pub struct Comparison {
    /// What the cache reuses of the second after the first.
    pub explanation: Explanation,
    /// Every difference in the order of the prompt; one of kind [`DivergenceKind::None`] where there is nothing to mend.
    pub differences: Vec<Difference>,
    /// Leading tokens that both share after they are mended.
    pub fixed: usize,
    /// The lengths of both prompts after that, in tokens.
    pub fixed_tokens: [usize; 2],
    /// Both requests mended; unchanged where that gains nothing.
    pub requests: [Value; 2],
    /// What mending did.
    pub mending: Mending,
}

impl Comparison {
    /// Compares the first request, which the cache knows, and the second.
    ///
    /// # Errors
    /// None for requests of which [`Side::new`] could make prompts.
    pub fn new(known: &Side, prompt: &Side) -> Result<Self> {
        let explanation = explain(
            (&known.namespace, &known.conversation),
            (&prompt.namespace, &prompt.conversation),
            &prompt.language.tokenizer,
        );
        let tokens = [known, prompt].map(|side| side.conversation.tokens.len());
        let requests = [known, prompt].map(|side| side.request.clone());
        let mut comparison = Self {
            fixed: explanation.shared,
            explanation,
            differences: Vec::new(),
            fixed_tokens: tokens,
            requests,
            mending: Mending::default(),
        };
        let turns = Turns::new([known.messages(), prompt.messages()]);
        comparison.differences = comparison.find(known, prompt, &turns)?;
        if known.prompt.is_some() && prompt.prompt.is_some() && known.namespace == prompt.namespace {
            comparison.mend(known, prompt, &turns);
        }
        Ok(comparison)
    }

    fn find(&self, known: &Side, prompt: &Side, turns: &Turns) -> Result<Vec<Difference>> {
        let found = &self.explanation.divergence;
        let mut placed: Vec<(usize, Difference)> = Vec::new();
        if let Some(found) = found.as_ref().filter(|found| matches!(found.owner, Owner::Namespace { .. })) {
            let lines = [&*found.known, &*found.prompt];
            placed.push((0, Difference::new(DivergenceKind::Settings, found.owner.clone(), lines)));
        }
        let (old, new) = (&known.conversation.tokens, &prompt.conversation.tokens);
        let parted = old.iter().zip(new).position(|(old, new)| old != new);
        let ignored = known.drops_tools() || prompt.drops_tools();
        if ignored {
            let names = [known, prompt].map(|side| names(side.tools()));
            let lines = [&*names[0], &*names[1]];
            let owner = Owner::Tools { tool: None, name: None };
            placed.push((0, Difference::new(DivergenceKind::ToolsIgnored, owner, lines)));
        }
        placed.extend(dropped_calls(known, prompt));
        if let Some(at) = parted.filter(|_| known.prompt.is_some() && prompt.prompt.is_some()) {
            placed.extend(settings(known, prompt)?);
            placed.extend(templates(known, prompt, at)?);
            if !ignored {
                placed.extend(tools(known, prompt));
            }
            placed.extend(messages(known, prompt, turns)?);
            // A difference before the last question that no author wrote.
            let tail = prompt.conversation.spans.iter().find(|span| is_message(&span.owner, turns.tail));
            let tail = tail.map_or_else(|| prompt.last_message(), |span| span.tokens.start);
            if !placed.iter().any(|(_, found)| found.kind != DivergenceKind::ToolsIgnored) && at < tail {
                placed.extend(found.as_ref().map(|found| {
                    let lines = [known.line(at), prompt.line(at)];
                    let own = matches!(found.change, Change::Tokenization | Change::Thinking);
                    // The messages are the same, and the template writes them in another way.
                    let (kind, owner, advice) = match own {
                        true => (found.kind, found.owner.clone(), found.advice()),
                        false => (DivergenceKind::Template, Owner::Template { date: false }, MOVES_TEXT),
                    };
                    (at, Difference { advice, ..Difference::new(kind, owner, [&*lines[0], &*lines[1]]) })
                }));
            }
        } else if let Some(found) =
            found.as_ref().filter(|found| placed.is_empty() && found.kind != DivergenceKind::None)
        {
            placed.push((0, Difference::new(found.kind, found.owner.clone(), [&*found.known, &*found.prompt])));
        }
        placed.sort_by_key(|found| found.0);
        if placed.is_empty() {
            placed.push((0, Difference::new(DivergenceKind::None, Owner::Prompt, ["", ""])));
        }
        Ok(placed.into_iter().map(|found| found.1).collect())
    }

    fn mend(&mut self, known: &Side, prompt: &Side, turns: &Turns) {
        let dated =
            [known, prompt].iter().any(|side| side.language.template().is_ok_and(|template| template.is_dated()));
        for variables in Variables::ALL {
            let Mended { mut requests, moved, mut mending } = mend([known.request, prompt.request], turns, variables);
            mending.dated = dated && pin_date(&mut requests);
            let same = says_the_same(known.request, &requests[0]) && says_the_same(prompt.request, &requests[1]);
            let shown = [known, prompt].into_iter().zip(&requests).zip(&moved).all(|((side, request), moved)| {
                side.rendered(request).is_some_and(|text| moved.iter().all(|own| text.contains(own.trim())))
            });
            if !same || !shown {
                continue;
            }
            let Ok(old) = known.tokens(&requests[0]) else { continue };
            let Ok(new) = prompt.tokens(&requests[1]) else { continue };
            let shared = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
            // The least change after which about as little is left to compute.
            let margin = if self.fixed == self.explanation.shared { 0 } else { PAGE };
            if shared > self.explanation.shared && new.len() - shared + margin < self.fixed_tokens[1] - self.fixed {
                (self.fixed, self.fixed_tokens, self.requests) = (shared, [old.len(), new.len()], requests);
                self.mending = mending;
            }
        }
    }
}

fn is_message(owner: &Owner, index: usize) -> bool {
    matches!(owner, Owner::Message { message, .. } if *message == index)
}

fn names(tools: &[Value]) -> String {
    let names = tools.iter().map(|tool| super::differences::name(tool).unwrap_or_else(|| tool.to_string()));
    names.collect::<Vec<_>>().join(", ")
}

/// `request` with these fields of the other.
fn with_fields_of(request: &Value, other: &Value, names: &[&str]) -> Value {
    let mut fields: Map<String, Value> = match request {
        Value::Object(fields) => fields.clone(),
        messages => [("messages".to_owned(), messages.clone())].into_iter().collect(),
    };
    for name in names {
        fields.shift_remove(*name);
        fields.extend(other.get(*name).map(|value| ((*name).to_owned(), value.clone())));
    }
    fields.into()
}

/// Settings that differ and change the prompt.
fn settings(known: &Side, prompt: &Side) -> Result<Vec<(usize, Difference)>> {
    const FIELDS: [(&str, &[&str]); 3] = [
        ("chat_template_kwargs", &["chat_template_kwargs", "template_kwargs"]),
        ("past_thinking", &["past_thinking"]),
        ("split_special_tokens", &["split_special_tokens"]),
    ];
    let mut found = Vec::new();
    for (field, names) in FIELDS {
        let value =
            |side: &Side| names.iter().find_map(|name| Some(side.request.get(*name)?.to_string())).unwrap_or_default();
        let lines = [value(known), value(prompt)];
        let like_known = || prompt.tokens(&with_fields_of(prompt.request, known.request, names));
        if lines[0] != lines[1] && like_known()? != prompt.conversation.tokens {
            let owner = Owner::Namespace { field };
            found.push((0, Difference::new(DivergenceKind::Settings, owner, [&*lines[0], &*lines[1]])));
        }
    }
    Ok(found)
}

/// Text that differs because the templates differ, or the days.
fn templates(known: &Side, prompt: &Side, at: usize) -> Result<Vec<(usize, Difference)>> {
    let mut found = Vec::new();
    let other_day = prompt.tokens(&with_fields_of(prompt.request, known.request, &["date", "now"]))?;
    if other_day != prompt.conversation.tokens {
        let lines =
            [known, prompt].map(|side| side.conversation.dated().map_or_else(String::new, |token| side.line(token)));
        let owner = Owner::Template { date: true };
        let place = prompt.conversation.dated().unwrap_or(at);
        found.push((place, Difference::new(DivergenceKind::Template, owner, [&*lines[0], &*lines[1]])));
    }
    let same_model = known.namespace.difference(&prompt.namespace).is_none_or(|field| field == "salt");
    if !std::ptr::eq(known.language, prompt.language) && same_model {
        // What each makes of the same request.
        let own = &prompt.conversation.tokens;
        let other = known.tokens(prompt.request).unwrap_or_else(|_| known.conversation.tokens.clone());
        if other != *own {
            let at = other.iter().zip(own).take_while(|(other, own)| other == own).count();
            let lines =
                [(known, &other), (prompt, own)].map(|(side, tokens)| line(&side.language.tokenizer, tokens, at, None));
            let owner = Owner::Template { date: false };
            found.push((at, Difference::new(DivergenceKind::Template, owner, [&*lines[0], &*lines[1]])));
        }
    }
    Ok(found)
}

/// Calls of tools that a template does not show.
fn dropped_calls(known: &Side, prompt: &Side) -> Option<(usize, Difference)> {
    let dropped = [known, prompt].map(Side::dropped_calls);
    let message = dropped.iter().flatten().map(|(message, _)| *message).next_back()?;
    let side = if dropped[1].is_some() { prompt } else { known };
    let owner = Owner::Message { message, role: side.messages()[message].role.clone() };
    let lines = dropped.map(|dropped| dropped.map_or_else(String::new, |(_, calls)| calls));
    let place = side.place(&owner).unwrap_or(0);
    Some((place, Difference::new(DivergenceKind::ToolsIgnored, owner, [&*lines[0], &*lines[1]])))
}

fn tools(known: &Side, prompt: &Side) -> Vec<(usize, Difference)> {
    let lists = [known.tools(), prompt.tools()];
    let list = Owner::Tools { tool: None, name: None };
    let first = |side: &Side| {
        let spans = side.conversation.spans.iter().filter(|span| matches!(span.owner, Owner::Tools { .. }));
        spans.map(|span| span.tokens.start).min()
    };
    let begin = first(prompt).or_else(|| first(known)).unwrap_or(0);
    let names = lists.map(names);
    let kind = match lists {
        [[], []] => return Vec::new(),
        [[], _] => DivergenceKind::Added,
        [_, []] => DivergenceKind::Dropped,
        _ => {
            let found = of_tools(lists).into_iter();
            return found.map(|found| (prompt.place(&found.owner).unwrap_or(begin), found)).collect();
        }
    };
    vec![(begin, Difference::new(kind, list, [&*names[0], &*names[1]]))]
}

/// How many pairs of messages are tested for a difference that does not show in the prompt; the rest are taken to show it.
const LOOKED_AT: usize = 16;

/// Differences between messages that show in the prompt, each with its first token there.
fn messages(known: &Side, prompt: &Side, turns: &Turns) -> Result<Vec<(usize, Difference)>> {
    let mut hidden: HashMap<(usize, usize), bool> = HashMap::new();
    let (mut placed, mut last) = (Vec::new(), 0);
    for (pair, found) in of_messages(turns) {
        if let Some((old, new)) = pair {
            let looked_at = hidden.len();
            let hidden = *hidden.entry((old, new)).or_insert_with(|| {
                if looked_at >= LOOKED_AT {
                    return false;
                }
                let mut request = with_fields_of(prompt.request, &Value::Null, &[]);
                let messages = known.request.get("messages").unwrap_or(known.request);
                request["messages"][new] = messages[old].clone();
                prompt.tokens(&request).is_ok_and(|tokens| tokens == prompt.conversation.tokens)
            });
            if hidden {
                continue;
            }
        }
        // A dropped message has its place in the first prompt alone.
        if found.kind != DivergenceKind::Dropped || pair.is_some() {
            last = prompt.place(&found.owner).unwrap_or(last);
        }
        placed.push((last, found));
    }
    Ok(placed)
}
