//! Two requests compared as their authors wrote them: every difference, what to do about it, and both put in order.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::engine::{language::Language, openai::Input};
use crate::error::Result;
use crate::kv::{DivergenceKind, Namespace, Owner, PAGE};
use crate::text::{Message, Prompt};

use super::differences::{Difference, of_messages, of_tools};
use super::mend::{Mended, Variables, mend, pin_date, says_the_same};
use super::turns::Turns;
use super::{Conversation, Explanation, explain, text};

/// A request and what the model is given for it.
pub struct Side<'a> {
    language: &'a Language,
    namespace: Namespace,
    request: &'a Value,
    prompt: Option<Prompt>,
    now: Option<i64>,
    /// The prompt, and who made what of it.
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

    /// What the same model makes of another request.
    fn tokens(&self, request: &Value) -> Result<Vec<u32>> {
        self.language.tokens(&read(request, self.now)?)
    }

    fn rendered(&self, request: &Value) -> Option<String> {
        let prompt = Prompt::read(request).ok()?;
        let inputs = prompt.inputs();
        self.language
            .template()
            .ok()?
            .render_inputs(&crate::text::Inputs { now: inputs.now.or(self.now), ..inputs })
            .ok()
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

    /// Where in the prompt somebody's text begins.
    fn place(&self, owner: &Owner) -> Option<usize> {
        let spans = self.conversation.spans.iter();
        spans.filter(|span| span.owner == *owner).map(|span| span.tokens.start).min()
    }

    /// The line of the prompt that a token is in.
    fn line(&self, token: usize) -> String {
        let tokenizer = &self.language.tokenizer;
        let (before, behind) = self.conversation.tokens.split_at(token.min(self.conversation.tokens.len()));
        let (before, behind) = (text(tokenizer, before), text(tokenizer, behind));
        let start = before.rsplit('\n').next().unwrap_or_default();
        format!("{start}{}", behind.split('\n').next().unwrap_or_default())
    }
}

fn read(request: &Value, now: Option<i64>) -> Result<Input> {
    let mut input = Input::read(request)?;
    if let Input::Conversation(prompt) = &mut input {
        prompt.now = prompt.now.or(now);
    }
    Ok(input)
}

/// Two requests beside each other.
pub struct Comparison {
    /// What the cache makes of the second after the first.
    pub explanation: Explanation,
    /// Every difference in the order of the prompt; one of kind [`DivergenceKind::None`] where there is nothing to mend.
    pub differences: Vec<Difference>,
    /// Leading tokens that both share once they are mended.
    pub fixed: usize,
    /// The tokens of both prompts then.
    pub fixed_tokens: [usize; 2],
    /// Both requests mended; as they are where that gains nothing.
    pub requests: [Value; 2],
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
        let mut comparison =
            Self { fixed: explanation.shared, explanation, differences: Vec::new(), fixed_tokens: tokens, requests };
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
        if let Some(at) = parted.filter(|_| known.prompt.is_some() && prompt.prompt.is_some()) {
            placed.extend(settings(known, prompt)?);
            placed.extend(templates(known, prompt, at)?);
            if !ignored {
                placed.extend(tools(known, prompt));
            }
            placed.extend(messages(known, prompt, turns)?);
            // What no author wrote, and what stands before the last question.
            let tail = prompt.conversation.spans.iter().find(|span| is_message(&span.owner, turns.tail));
            let tail = tail.map_or(new.len(), |span| span.tokens.start);
            if !placed.iter().any(|(_, found)| found.kind != DivergenceKind::ToolsIgnored) && at < tail {
                placed.extend(found.as_ref().map(|found| {
                    let lines = [known.line(at), prompt.line(at)];
                    let told = Difference::new(found.kind, found.owner.clone(), [&*lines[0], &*lines[1]]);
                    (at, Difference { advice: found.advice(), ..told })
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
            let Mended { mut requests, moved } = mend([known.request, prompt.request], turns, variables);
            if dated {
                pin_date(&mut requests);
            }
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
            // The least change that gains about as much.
            let margin = if self.fixed == self.explanation.shared { 0 } else { PAGE };
            if shared > self.fixed + margin {
                (self.fixed, self.fixed_tokens, self.requests) = (shared, [old.len(), new.len()], requests);
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

/// `request` with these fields as the other has them.
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

/// Settings of the two requests of which the prompt makes something.
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

/// What two templates, or two days of one, write by themselves.
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
        let other = known.tokens(prompt.request);
        if other.is_ok_and(|other| other != prompt.conversation.tokens) {
            let lines = [known.line(at), prompt.line(at)];
            let owner = Owner::Template { date: false };
            found.push((at, Difference::new(DivergenceKind::Template, owner, [&*lines[0], &*lines[1]])));
        }
    }
    Ok(found)
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

/// Pairs of messages of which it is tried whether their difference shows in the prompt; of more it is taken for granted.
const LOOKED_AT: usize = 16;

/// What differs between the messages and shows in the prompt, each with where it stands there.
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
