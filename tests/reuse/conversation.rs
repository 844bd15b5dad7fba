//! Realistic conversations: each prompt reuses all that it shares with anything computed before, to the token, and the text is
//! that of a cold run.

use headstart::engine::explain::Conversation;
use headstart::engine::{Engine, EngineOptions, Event, Request};
use headstart::kv::{Change, Reason, Sources};
use headstart::sample::SamplingParams;
use headstart::text::{Inputs, Message};
use pollster::block_on;
use serde_json::{Value, json};

use super::{cold, prompt, watched};
use crate::support::engine::{Answer, greedy, load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Places, Reach, Tier};
use crate::support::variant::Speaker;

/// What an engine has computed. A prompt must reuse the longest prefix that it shares with any of it.
#[derive(Default)]
struct Known {
    /// Prompts with their answers, without an answer's last token, whose KV was never computed.
    sequences: Vec<Vec<u32>>,
    prompts: Vec<Vec<u32>>,
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Known {
    fn cached(&self, prompt: &[u32], exact: bool) -> usize {
        let known = if exact { &self.prompts } else { &self.sequences };
        let most = if self.prompts.iter().any(|known| known == prompt) { prompt.len() } else { prompt.len() - 1 };
        known.iter().map(|known| common(known, prompt)).max().unwrap_or(0).min(most)
    }

    fn add(&mut self, prompt: &[u32], answer: &[u32]) {
        let computed = answer.len().saturating_sub(1);
        self.sequences.push([prompt, &answer[..computed]].concat());
        self.prompts.push(prompt.to_vec());
    }
}

struct Talk {
    speaker: Speaker,
    engine: Engine,
    reference: Engine,
    known: Known,
    exact: bool,
    seed: u64,
    retokenized: usize,
}

/// How an answer ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Length,
    /// Stopped by the reader after this many tokens.
    Stopped(usize),
}

impl Talk {
    fn new(exact: bool) -> Self {
        let speaker = Speaker::make();
        let options = EngineOptions { chunk: Some(64), max_sequences: Some(4), ..EngineOptions::default() };
        let (engine, reference) = (load(speaker.folder.path(), &options), load(speaker.folder.path(), &options));
        Self { speaker, engine, reference, known: Known::default(), exact, seed: 0, retokenized: 0 }
    }

    fn conversation(&self, messages: &[Value]) -> Conversation {
        let messages = Message::list(&Value::from(messages.to_vec())).unwrap();
        let inputs = Inputs { messages: &messages, add_generation_prompt: true, ..Inputs::default() };
        Conversation::new(&self.speaker.template, &self.speaker.tokenizer, &inputs).unwrap()
    }

    /// Answers, and checks the reuse against all that is known and the text against a cold run's. Returns the text, the number
    /// of reused tokens and the number of prompt tokens.
    fn turn(&mut self, what: &str, messages: &[Value], end: End) -> (String, usize, usize) {
        let conversation = self.conversation(messages);
        let tokens = &conversation.tokens;
        self.seed += 1;
        let sampling =
            SamplingParams { temperature: 1.0, top_k: Some(40), seed: self.seed, ..SamplingParams::default() };
        let request = Request { sampling, exact: self.exact, explain: true, ..greedy(tokens, 24) };
        let expected = self.known.cached(tokens, self.exact);
        let answer = match end {
            End::Length => run(&mut self.engine, std::slice::from_ref(&request)).remove(0),
            End::Stopped(after) => stopped(&mut self.engine, request.clone(), after),
        };
        // An answer that its reader stopped has no report; the next turn shows what it had computed.
        if end == End::Length {
            let sources = Sources { gpu: expected, computed: tokens.len() - expected, ..Sources::default() };
            assert_eq!(answer.cache.sources, sources, "{what}");
        }
        if self.exact {
            let cold = run(&mut self.reference, &[cold(request)]).remove(0);
            assert_eq!(answer.tokens, cold.tokens[..answer.tokens.len()], "{what}: another text");
        }
        if let Some(found) = conversation.divergence(&answer.cache, &self.speaker.tokenizer)
            && found.change == Change::Tokenization
        {
            assert_eq!((found.token, found.recoverable), (expected, 0), "{what}");
            self.retokenized += 1;
        }
        self.known.add(tokens, &answer.tokens);
        (self.speaker.tokenizer.decode(&answer.tokens, true), expected, tokens.len())
    }
}

/// An answer whose reader stops after this many tokens.
fn stopped(engine: &mut Engine, request: Request, after: usize) -> Answer {
    let sequence = engine.submit(request).unwrap();
    let mut answer = Answer::default();
    while answer.tokens.len() < after {
        for event in block_on(engine.step()).unwrap() {
            if let Event::Token { token, .. } = event {
                answer.tokens.push(token);
            }
        }
    }
    engine.cancel(sequence);
    assert!(!engine.is_busy());
    answer
}

fn says(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

const RULES: &str =
    "You are the keeper of a lighthouse. Answer in short sentences, and name the wind when you know it.";

/// All ways in which conversations continue, one after another in one engine.
fn talk(exact: bool) -> Talk {
    let mut talk = Talk::new(exact);
    let system = says("system", RULES);
    let mut first = vec![system.clone(), says("user", "Which ships came by last night, and from where?")];
    let (answer, cached, asked) = talk.turn("a first question", &first, End::Length);
    assert_eq!(cached, 0);

    let (_, cached, length) = talk.turn("a regenerated answer", &first, End::Length);
    assert_eq!((cached, length), (asked, asked), "the whole prompt is known");

    first.extend([says("assistant", &answer), says("user", "And the night before?")]);
    let (second, cached, length) = talk.turn("a next turn, of a length-cut answer", &first, End::Length);
    assert!((asked..length).contains(&cached), "{cached} of {length}");

    first.extend([says("assistant", &second), says("user", "How was the sea?")]);
    let before = talk.conversation(&first[..4]).tokens.len();
    let (third, cached, length) = talk.turn("a turn whose answer the reader stops", &first, End::Stopped(7));
    assert!((before..length).contains(&cached), "{cached} of {length}");

    first.extend([says("assistant", &third), says("user", "Go on, please.")]);
    let (_, cached, longer) = talk.turn("a next turn, of a stopped answer", &first, End::Length);
    assert!((length..longer).contains(&cached), "{cached} of {longer}");

    let mut edited = first.clone();
    edited[3] = says("user", "And the week before?");
    let shared = common(&talk.conversation(&edited).tokens, &talk.conversation(&first).tokens);
    let (_, cached, _) = talk.turn("an edited earlier message", &edited, End::Length);
    assert_eq!(cached, shared);

    let other = vec![system, says("user", "When do you light the lamp?")];
    let shared = common(&talk.conversation(&other).tokens, &talk.conversation(&first).tokens);
    let (_, cached, length) = talk.turn("another conversation with the same system text", &other, End::Length);
    assert!(cached == shared && cached > length / 2, "{cached} of {length}");

    let (_, cached, length) = talk.turn("the first conversation once more", &first, End::Length);
    assert_eq!(cached, length);
    talk
}

#[test]
fn conversations_reuse_all_that_they_share() {
    let talk = talk(false);
    assert!(talk.retokenized > 0, "no answer was tokenized differently when read back, so that case was not tested");
}

#[test]
fn with_exact_conversations_answer_as_cold_runs() {
    talk(true);
}

/// Five turns in one engine, and a sixth in another engine after a restart. All that any turn computed is found in the tier, in
/// whole blocks and the block in which a turn ended, and the answer is the one that the first engine would have given.
#[test]
fn a_conversation_continues_after_a_restart() {
    let places = Places::default();
    for tier in Tier::reaching(Reach::All) {
        let place = places.new_in(tier);
        let mut talk = Talk::new(false);
        place.attach(&mut talk.engine, "digest");
        let mut messages = vec![says("system", RULES)];
        for turn in 1..6 {
            messages.push(says("user", &format!("Which ships came by in night {turn}, and from where?")));
            let (answer, _, _) = talk.turn(&format!("turn {turn}"), &messages, End::Length);
            messages.push(says("assistant", &answer));
        }
        block_on(talk.engine.persist()).unwrap();
        let said = talk.conversation(&messages).tokens.len();
        messages.push(says("user", "And which wind was it?"));
        let tokens = talk.conversation(&messages).tokens;
        let of = |known: &Vec<u32>| match common(known, &tokens) {
            shared if shared == known.len() => shared,
            shared => shared / 16 * 16,
        };
        let expected = talk.known.sequences.iter().chain(&talk.known.prompts).map(of).max().unwrap();
        assert!(expected > said / 2, "{expected} of {said} tokens");
        let request = Request { logits: true, ..greedy(&tokens, 12) };
        let mut other = load(talk.speaker.folder.path(), &EngineOptions::default());
        place.restart(&mut other, "digest");
        let answer = run(&mut other, std::slice::from_ref(&request)).remove(0);
        assert_eq!(answer.cache.sources, (tier.sources)(expected, tokens.len() - expected), "{}", tier.name);
        let went_on = run(&mut talk.engine, std::slice::from_ref(&request)).remove(0);
        assert_eq!(answer.tokens, went_on.tokens, "{}", tier.name);

        // With `exact`, decoded KV is left out, and reported as such; once prefilled, it is found.
        let exactly = Request { exact: true, ..request.clone() };
        place.restart(&mut other, "digest");
        let exact = run(&mut other, std::slice::from_ref(&exactly)).remove(0);
        let reused = exact.cache.sources;
        assert_eq!(reused, (tier.sources)(exact.usage.cached_tokens, tokens.len() - exact.usage.cached_tokens));
        assert!((talk.known.prompts[0].len()..expected).contains(&exact.usage.cached_tokens), "{reused:?}");
        let left_out = exact.cache.misses.iter().find(|miss| miss.reason == Reason::DecodeWritten).unwrap();
        assert_eq!(left_out.from, exact.usage.cached_tokens, "{}", tier.name);
        let cold = run(&mut talk.reference, &[cold(exactly.clone())]).remove(0);
        assert_eq!((&exact.tokens, &exact.logits), (&cold.tokens, &cold.logits), "{}", tier.name);

        place.restart(&mut other, "digest");
        run(&mut other, &[request]);
        block_on(other.heal()).unwrap();
        block_on(other.persist()).unwrap();
        place.restart(&mut other, "digest");
        let healed = run(&mut other, &[exactly]).remove(0);
        assert_eq!(healed.cache.sources, (tier.sources)(tokens.len(), 0), "{}", tier.name);
        assert_eq!((&healed.tokens, &healed.logits), (&cold.tokens, &cold.logits), "{}", tier.name);
    }
}

/// Room for 512 tokens, for conversations that need more.
fn small() -> EngineOptions {
    let (context, kv_tokens) = (Some(256), Some(512));
    EngineOptions { context, kv_tokens, chunk: Some(64), max_sequences: Some(2), ..EngineOptions::default() }
}

/// Four conversations of ten pages each take turns in thirty-two pages. The least recently used one loses its last pages, as
/// many as are needed, and they are restored from memory.
#[test]
fn the_oldest_conversations_end_is_evicted_and_restored_from_memory() {
    let tiny = Tiny::read(NAMES[0]);
    for tier in ["gpu", "memory"].map(Tier::named) {
        let place = Places::default().new_in(tier);
        let mut engine = load(&tiny.folder, &small());
        place.attach(&mut engine, "digest");
        let prompts: Vec<_> = (0..4).map(|seed| prompt(160, tiny.vocabulary, 20 + seed)).collect();
        for prompt in &prompts {
            assert_eq!(run(&mut engine, &[watched(prompt, 1)])[0].usage.cached_tokens, 0);
            block_on(engine.persist()).unwrap();
        }
        // The fourth took two free pages and eight of the first's. Each that returns takes eleven, minus the pages that it
        // still has.
        for (seed, kept) in [(0, 32), (1, 16), (2, 0)] {
            let next = [&prompts[seed][..], &[seed as u32; 5]].concat();
            let cold = run(&mut load(&tiny.folder, &small()), &[cold(watched(&next, 1))]).remove(0);
            place.attach(&mut engine, "digest");
            let answer = run(&mut engine, &[watched(&next, 1)]).remove(0);
            let what = format!("conversation {seed}, {}", tier.name);
            let memory = if tier.is_gpu() { 0 } else { 160 - kept };
            let sources = Sources { gpu: kept, memory, computed: 165 - kept - memory, ..Sources::default() };
            assert_eq!(answer.cache.sources, sources, "{what}");
            if tier.is_gpu() {
                assert_eq!(answer.cache.misses[0].reason, Reason::Evicted, "{what}");
            }
            super::same(&what, &cold, &answer, kept + memory);
            block_on(engine.persist()).unwrap();
        }
        assert_eq!(engine.kv_pages(), 32);
    }
}

/// Eight conversations in random order, two at a time, in room for three. With `exact`, each gives its cold answer and reuses
/// all that prefill ever computed of it, to the token.
#[test]
fn interleaved_conversations_in_little_memory_answer_as_cold_ones() {
    let tiny = Tiny::read(NAMES[0]);
    let (mut engine, mut reference) = (load(&tiny.folder, &small()), load(&tiny.folder, &small()));
    let place = Places::default().new_in(Tier::named("memory"));
    let mut known = Known::default();
    let mut talks: Vec<Vec<u32>> = (0..8).map(|seed| prompt(20 + 9 * seed, tiny.vocabulary, 30 + seed)).collect();
    let (mut state, mut total) = (7u64, Sources::default());
    for _ in 0..25 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let pair = [(state >> 33) as usize % 8, (state >> 43) as usize % 7];
        let pair = [pair[0], if pair[1] < pair[0] { pair[1] } else { pair[1] + 1 }];
        let requests = pair.map(|talk| watched(&talks[talk], 6));
        place.attach(&mut engine, "digest");
        let answers = run(&mut engine, &requests);
        block_on(engine.persist()).unwrap();
        for (request, answer) in requests.iter().zip(&answers) {
            let length = request.tokens.len();
            let cached = answer.usage.cached_tokens;
            assert_eq!(cached, known.cached(&request.tokens, true), "of {length} tokens");
            let cold = run(&mut reference, &[cold(request.clone())]).remove(0);
            super::same("interleaved", &cold, answer, cached);
            let Sources { gpu, memory, computed, .. } = answer.cache.sources;
            assert_eq!(gpu + memory + computed, length);
            (total.gpu, total.memory) = (total.gpu + gpu, total.memory + memory);
        }
        for ((talk, request), answer) in pair.into_iter().zip(&requests).zip(&answers) {
            known.add(&request.tokens, &answer.tokens);
            let said = prompt(7, tiny.vocabulary, known.prompts.len());
            talks[talk] = [&request.tokens[..], &answer.tokens, &said].concat();
            if talks[talk].len() > 200 {
                talks[talk].truncate(23 + talk);
            }
        }
    }
    assert_eq!(engine.kv_pages(), 32);
    // Otherwise nothing was ever evicted, or nothing was restored.
    assert!(total.gpu > 500 && total.memory > 500, "{total:?}");
}
