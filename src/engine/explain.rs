//! Whose text keeps a prompt from being reused: the spans of a conversation, and what follows from them.
//!
//! A template does not say which text it made of what, so it is found by trying. A message's content lies where the text
//! changes when that content alone is changed, a tool where the text changes when that tool alone is, the date where it
//! changes when only the clock is. A message reaches on to where the rendering of the messages before it ends, and to
//! where that of the messages up to it does, unless another's text lies between. What nobody claims is the template's own.
//! Cost: a few renderings a message and a tool, one tokenisation, no GPU.

use std::ops::Range;

use serde_json::{Value, json};

use crate::error::Result;
use crate::kv::{
    Admission, AdmitOptions, Cache, Config, Divergence, Miss, Namespace, Owner, PAGE, Producer, Reason, Rendered,
    Report, Span, compare,
};
use crate::text::{ChatTemplate, Content, Inputs, Marked, Message, Tokenizer};

use super::Request;

/// A prompt as the model is given it, and who made what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// All of the prompt, up to where the answer begins.
    pub tokens: Vec<u32>,
    /// Who wrote which of them.
    #[doc(hidden)]
    pub spans: Vec<Span>,
}

impl Conversation {
    /// # Errors
    /// [`Error::Template`](crate::error::Error::Template) where the template refuses the messages.
    #[doc(hidden)]
    pub fn new(template: &ChatTemplate, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Self> {
        // One time for all renderings.
        let inputs = Inputs { now: Some(inputs.now.unwrap_or_else(|| template.now())), ..*inputs };
        let marked = Marked::new(template, tokenizer, &inputs);
        let marked_inputs = marked.inputs();
        let pieces = Pieces::find(template, &marked_inputs)?;
        let prompt = marked.prompt(&pieces.text)?;
        let (tokens, offsets) = prompt.encode(tokenizer)?;
        let place = |bytes: Range<usize>| prompt.place(bytes.start)..prompt.place(bytes.end);
        let spans = pieces.found.into_iter().map(|piece| {
            let bytes = place(piece.bytes);
            let first = offsets.partition_point(|token| token.end <= bytes.start);
            let end = offsets.partition_point(|token| token.start < bytes.end);
            let text = prompt.text[place(piece.own)].to_owned();
            Span { owner: piece.owner, tokens: first..end.max(first), text }
        });
        Ok(Self { spans: spans.collect(), tokens })
    }

    /// A text that is no conversation.
    pub fn raw(tokens: Vec<u32>) -> Self {
        let spans = vec![Span { owner: Owner::Prompt, tokens: 0..tokens.len(), text: String::new() }];
        Self { tokens, spans }
    }

    pub(crate) fn rendered(&self) -> Rendered<'_> {
        Rendered { tokens: &self.tokens, spans: &self.spans }
    }

    /// The first token that the template makes of the date, if it makes any.
    pub fn dated(&self) -> Option<usize> {
        let date = self.spans.iter().find(|span| span.owner == Owner::Template { date: true });
        date.map(|span| span.tokens.start)
    }

    /// Where this prompt parted from what was known when it was admitted; none unless its [`Request`] asked.
    pub fn divergence(&self, report: &Report, tokenizer: &Tokenizer) -> Option<Divergence> {
        let at = report.first_divergent.filter(|_| !report.known.is_empty())?;
        let known = [self.tokens.get(..at)?, &report.known].concat();
        let found = compare(Rendered { tokens: &known, spans: &[] }, self.rendered(), |tokens| text(tokenizer, tokens));
        found.filter(|found| found.token == at)
    }
}

/// The bytes of `tokens`, nothing left out at the beginning as [`Tokenizer::decode`] may.
fn text(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().filter_map(|&token| tokenizer.token_bytes(token)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Known tokens that are kept beyond the length of the prompt, so that what comes in between does not hide what is the same.
const BEYOND: usize = 1024;

/// The report of an admission, with what is known to follow where the prompt diverges if `request` asks for it. To be
/// called before the prompt is published. O(tokens of the prompt), only on a divergence.
pub(super) fn report(cache: &Cache, admission: &Admission, request: &Request) -> Report {
    let mut report = admission.report.clone();
    if let Some(at) = report.first_divergent.filter(|_| request.explain) {
        let limit = request.tokens.len() - at + BEYOND;
        report.known = cache.known_continuation(admission.table.namespace(), &request.tokens, at, limit);
    }
    report
}

/// Completes the account of a prompt by what is stored, where the pages had never seen the tokens: a sequence that parts
/// from the prompt there, or the same tokens under another namespace. What is stored under another salt tells nothing: one
/// tenant learns nothing of another. O(tokens stored).
#[doc(hidden)]
pub fn recall<'a>(
    report: &mut Report,
    namespace: &Namespace,
    prompt: &[u32],
    stored: impl IntoIterator<Item = (&'a Namespace, &'a [u32])>,
) {
    let Some(index) = report.unexplained() else { return };
    let Miss { from, tokens, .. } = report.misses[index];
    let same = |other: &[u32]| prompt.iter().zip(other).take_while(|(a, b)| a == b).count();
    let visible = stored.into_iter().filter(|(theirs, _)| theirs.tenant() == namespace.tenant());
    let found = visible.map(|(theirs, tokens)| (theirs, tokens, same(tokens)));
    let (own, others): (Vec<_>, Vec<_>) = found.partition(|(theirs, ..)| *theirs == namespace);
    let parted = own.into_iter().filter(|(_, tokens, same)| *same < tokens.len().min(prompt.len()));
    let nearest = parted.max_by_key(|found| found.2).filter(|(_, _, at)| (from..from + PAGE).contains(at));
    if let Some((_, known, at)) = nearest {
        report.misses[index].reason = Reason::Diverged;
        report.first_divergent = Some(at);
        report.known = known[at..].iter().copied().take(prompt.len() - at + BEYOND).collect();
        return;
    }
    let longest = others.into_iter().max_by_key(|found| found.2).filter(|(_, _, same)| from < PAGE && *same >= PAGE);
    let Some((theirs, _, same)) = longest else { return };
    let Some(field) = namespace.difference(theirs) else { return };
    let reason = Reason::NamespaceChanged { field };
    let known = (same - from).min(tokens);
    let cold = Miss { reason: Reason::Cold, from: from + known, tokens: tokens - known };
    report.misses.splice(index..=index, [Miss { reason, from, tokens: known }, cold]);
    report.misses.retain(|miss| miss.tokens > 0);
}

/// What the cache would make of one prompt after another, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Leading tokens that could be shared.
    pub shared: usize,
    /// The account of the second prompt, where the first is all that is known.
    pub report: Report,
    /// Where the second parts from the first; `None` where one begins with the other.
    pub divergence: Option<Divergence>,
}

/// Explains `prompt` where `known` was computed before, each under its namespace: by a cache that holds nothing else.
pub fn explain(
    known: (&Namespace, &Conversation),
    prompt: (&Namespace, &Conversation),
    tokenizer: &Tokenizer,
) -> Explanation {
    let (old, new) = (&known.1.tokens, &prompt.1.tokens);
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let divergence = Divergence::of_namespaces(known.0, prompt.0, same)
        .or_else(|| compare(known.1.rendered(), prompt.1.rendered(), |tokens| text(tokenizer, tokens)));
    let shared = divergence.as_ref().map_or(same, |divergence| divergence.token);
    Explanation { shared, report: account((known.0, old), (prompt.0, new)), divergence }
}

fn account(known: (&Namespace, &[u32]), prompt: (&Namespace, &[u32])) -> Report {
    const ROOM: &str = "the pages were counted";
    let capacity = known.1.len().div_ceil(PAGE) + prompt.1.len().div_ceil(PAGE) + 1;
    let mut cache = Cache::new(Config { capacity, ..Config::default() });
    let mut table = cache.admit(known.0, known.1, &AdmitOptions::default()).expect(ROOM).table;
    cache.append(&mut table, known.1.len()).expect(ROOM);
    cache.publish(&mut table, known.1, Producer::Prefill);
    cache.release(table);
    let options = AdmitOptions { across_salts: true, ..AdmitOptions::default() };
    let admission = cache.admit(prompt.0, prompt.1, &options).expect(ROOM);
    cache.release(admission.table);
    admission.report
}

/// A piece of a rendered text: its bytes, and those among them that the owner itself wrote.
struct Piece {
    owner: Owner,
    bytes: Range<usize>,
    own: Range<usize>,
}

struct Pieces<'a> {
    template: &'a ChatTemplate,
    inputs: &'a Inputs<'a>,
    text: String,
    found: Vec<Piece>,
}

impl<'a> Pieces<'a> {
    fn find(template: &'a ChatTemplate, inputs: &'a Inputs<'a>) -> Result<Self> {
        let text = template.render_inputs(inputs)?;
        let mut pieces = Self { template, inputs, text, found: Vec::new() };
        pieces.find_tools();
        pieces.find_messages();
        pieces.find_date();
        Ok(pieces)
    }

    /// Where the text differs when it is made of other inputs; none where it does not, or cannot be made of them.
    fn differs(&self, inputs: &Inputs) -> Option<Range<usize>> {
        let other = self.template.render_inputs(inputs).ok()?;
        (self.text != other).then(|| difference(&self.text, &other))
    }

    fn find_tools(&mut self) {
        let list: &[Value] = self.inputs.tools.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        // What a template that prints tools whole shows of them all, and what one shows that asks for their fields.
        let function = json!({ "type": "function", "function": { "name": MARK, "description": MARK } });
        let others = [json!(MARK), json!({ MARK: null }), function];
        for index in 0..list.len() {
            let changed = others.iter().filter_map(|other| {
                let mut list = list.to_vec();
                list[index] = other.clone();
                self.differs(&Inputs { tools: Some(&list.into()), ..*self.inputs })
            });
            let Some(bytes) = changed.reduce(union) else { continue };
            let tool = &list[index];
            let name = tool["function"]["name"].as_str().or(tool["name"].as_str()).map(str::to_owned);
            let owner = Owner::Tools { tool: Some(index), name };
            self.found.push(Piece { owner, own: bytes.clone(), bytes });
        }
        let without = (!list.is_empty()).then(|| self.template.render_inputs(&Inputs { tools: None, ..*self.inputs }));
        if let Some(Ok(without)) = without {
            let own = added(&self.text, &without).into_iter();
            let owner = Owner::Tools { tool: None, name: None };
            self.found.extend(own.map(|own| Piece { owner: owner.clone(), bytes: own.clone(), own }));
        }
    }

    fn find_messages(&mut self) {
        let messages = self.inputs.messages;
        let contents: Vec<Option<Range<usize>>> = (0..messages.len())
            .map(|index| {
                let changed = variations(&messages[index]).into_iter().filter_map(|changed| {
                    let mut messages = messages.to_vec();
                    messages[index] = changed;
                    self.differs(&Inputs { messages: &messages, ..*self.inputs })
                });
                changed.reduce(union)
            })
            .collect();
        let mut edges = vec![messages.first().and_then(|message| self.first_edge(message))];
        edges.extend((1..=messages.len()).map(|count| {
            let part = self.render(&messages[..count])?;
            self.text.starts_with(&part).then_some(part.len())
        }));
        let tools: Vec<Range<usize>> = self.found.iter().map(|tool| tool.bytes.clone()).collect();
        for (index, own) in contents.iter().enumerate() {
            let Some(own) = own.clone() else { continue };
            let clear = |gap: Range<usize>| {
                let outside = |other: &Range<usize>| other.end <= gap.start || other.start >= gap.end;
                let others =
                    contents.iter().enumerate().filter(|(at, _)| *at != index).filter_map(|(_, own)| own.as_ref());
                others.chain(&tools).all(outside)
            };
            let start = edges[index].filter(|&at| at <= own.start && clear(at..own.start));
            let end = edges[index + 1].filter(|&at| at >= own.end && clear(own.end..at));
            let bytes = start.unwrap_or(own.start)..end.unwrap_or(own.end);
            let owner = Owner::Message { message: index, role: messages[index].role.clone() };
            self.found.push(Piece { owner, bytes, own });
        }
    }

    fn find_date(&mut self) {
        // Other years, months, days, hours, minutes and seconds, so that every part of a date changes by one of them.
        const LATER: [i64; 4] = [9 * DAY + 32_949, 47 * DAY + 40_271, 310 * DAY + 7_613, 4_000 * DAY + 61_555];
        const DAY: i64 = 86_400;
        let Some(now) = self.inputs.now.filter(|_| self.template.is_dated()) else { return };
        let at = |later: i64| self.differs(&Inputs { now: Some(now.saturating_add(later)), ..*self.inputs });
        if let Some(bytes) = LATER.into_iter().filter_map(at).reduce(union) {
            self.found.push(Piece { owner: Owner::Template { date: true }, own: bytes.clone(), bytes });
        }
    }

    /// The beginning of a conversation, without the opening of an answer.
    fn render(&self, messages: &[Message]) -> Option<String> {
        let closed = Inputs { messages, add_generation_prompt: false, continue_final_message: false, ..*self.inputs };
        self.template.render_inputs(&closed).ok()
    }

    /// Where the first message begins, behind what the template puts before it: a second one just like it shows what the
    /// template makes of the message alone.
    fn first_edge(&self, message: &Message) -> Option<usize> {
        let once = self.render(std::slice::from_ref(message))?;
        let twice = self.render(&[message.clone(), message.clone()])?;
        let second = twice.strip_prefix(&once)?;
        self.text.starts_with(&once).then(|| once.len() - same(once.chars().rev(), second.chars().rev()))
    }
}

/// A character that no text holds.
const MARK: &str = "\u{E000}";

/// The message with each part of it that a template may show changed.
fn variations(message: &Message) -> Vec<Message> {
    let mut changed = vec![Message { content: Content::Text(unlike(&message.content).into()), ..message.clone() }];
    if !message.tool_calls.is_empty() {
        let mut other = message.clone();
        for function in other.tool_calls.iter_mut().filter_map(|call| call.get_mut("function")) {
            (function["name"], function["arguments"]) = (MARK.into(), json!({ MARK: null }));
        }
        changed.push(other);
    }
    for (key, _) in message.other.iter().filter(|(_, value)| value.is_string()) {
        let mut other = message.clone();
        other.other.insert(key.clone(), MARK.into());
        changed.push(other);
    }
    changed
}

/// A text that neither begins nor ends as `content` does.
fn unlike(content: &Content) -> &'static str {
    let (first, last) = match content {
        Content::Text(text) => (text.chars().next(), text.chars().next_back()),
        Content::Parts(parts) => (
            parts.iter().find_map(|part| part.chars().next()),
            parts.iter().rev().find_map(|part| part.chars().next_back()),
        ),
        Content::Absent => (None, None),
    };
    let free = |mark: &&str| ![first, last].contains(&mark.chars().next());
    [MARK, "\u{E001}", "\u{E002}"].into_iter().find(free).unwrap_or_default()
}

/// The bytes of `text` between the longest beginning and the longest end that it shares with `other`.
fn difference(text: &str, other: &str) -> Range<usize> {
    let start = same(text.chars(), other.chars());
    start..text.len() - same(text[start..].chars().rev(), other[start..].chars().rev())
}

/// The bytes of `text` that `other` does not have, in runs: between the beginning and the end that both share, whatever lies
/// between the lines of `other`.
fn added(text: &str, other: &str) -> Vec<Range<usize>> {
    let Range { start, end } = difference(text, other);
    let (mut at, mut runs) = (start, Vec::new());
    for line in other[start..other.len() - (text.len() - end)].split_inclusive('\n') {
        if let Some(place) = text[at..end].find(line) {
            runs.push(at..at + place);
            at += place + line.len();
        }
    }
    runs.push(at..end);
    runs.retain(|run| !run.is_empty());
    runs
}

fn union(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Bytes of the characters that both begin with.
fn same(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
