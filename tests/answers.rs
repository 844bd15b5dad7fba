//! `Answers`, the owner of the loop: several answers at once, how they end, and what happens to them when the device is lost.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use headstart::engine::answers::{Answer, AnswerId, Answers, MAX_LOSSES, Update, What, unheard};
use headstart::engine::{Engine, EngineOptions, FinishReason, Request, language};
use headstart::error::{Error, Result};
use headstart::sample::SamplingParams;
use headstart::store::{MemoryStore, Tiers, TiersConfig, system_clock};
use headstart::text::{StopStrings, Tokenizer};
use headstart::weights::Checkpoint;
use pollster::block_on;
use tempfile::TempDir;
use web_time::Instant;

use crate::support::engine::{greedy, load};
use crate::support::odd::NAMES;
use crate::support::tiny_chat;

const LENGTH: usize = 16;

fn options() -> EngineOptions {
    EngineOptions { chunk: Some(16), ..EngineOptions::default() }
}

fn tokenizer(folder: &Path) -> Tokenizer {
    language::tokenizer(&block_on(Checkpoint::open(folder)).unwrap()).unwrap()
}

/// A prompt of byte tokens, different for each seed.
fn prompt(length: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * 37 + seed * 101) % 250) as u32).collect()
}

/// A request that samples byte tokens alone, so that its answer has text.
fn request(seed: usize) -> Request {
    let logit_bias = (256..1001).map(|id| (id, -100.0)).collect();
    let sampling = SamplingParams { temperature: 1.0, seed: seed as u64, logit_bias, ..SamplingParams::default() };
    Request { sampling, ..greedy(&prompt(40 + seed, seed), LENGTH) }
}

struct World {
    folder: TempDir,
    answers: Answers,
    /// How many engines were loaded after the first.
    loads: Rc<Cell<usize>>,
    /// The error that a reload returns instead of an engine.
    refuses: Rc<RefCell<Option<Error>>>,
    /// Whether each newly loaded device is lost at once.
    doomed: Rc<Cell<bool>>,
}

impl World {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: EngineOptions) -> Self {
        let folder = tiny_chat::folder(NAMES[0]);
        let (loads, refuses, doomed) = <(Rc<Cell<usize>>, Rc<RefCell<Option<Error>>>, Rc<Cell<bool>>)>::default();
        let place = folder.path().to_owned();
        let (count, refusal, lost) = (loads.clone(), refuses.clone(), doomed.clone());
        let again = options.clone();
        let reload = async move || {
            count.set(count.get() + 1);
            if let Some(error) = refusal.borrow().clone() {
                return Err(error);
            }
            let engine = Engine::load(&Checkpoint::open(&place).await?, &again, &mut |_| {}).await?;
            if lost.get() {
                engine.destroy_device();
            }
            Ok(engine)
        };
        let engine = load(folder.path(), &options);
        let answers = Answers::new(engine, &tokenizer(folder.path()), Some(Box::new(reload)));
        Self { folder, answers, loads, refuses, doomed }
    }

    fn attach(&mut self) {
        let tiers = Tiers::new(MemoryStore::new(1 << 30, system_clock()), Vec::new(), TiersConfig::default());
        self.answers.engine_mut().attach(tiers, "digest", Duration::from_secs(60));
    }

    fn ask(&mut self, request: Request, stops: &[&str]) -> AnswerId {
        let stops = StopStrings::new(stops.iter().copied()).unwrap();
        self.answers.ask(request, stops, Instant::now()).unwrap()
    }

    /// The answer to a request that runs alone.
    fn alone(&mut self, request: Request, stops: &[&str]) -> Answer {
        let id = self.ask(request, stops);
        block_on(self.answers.run(id, &mut unheard)).unwrap()
    }

    fn step(&mut self) -> Vec<Update> {
        block_on(self.answers.step()).unwrap()
    }
}

/// The updates of one answer, collected.
#[derive(Default)]
struct Heard {
    text: String,
    tokens: Vec<u32>,
    read: Vec<usize>,
    end: Option<Result<Answer>>,
}

impl Heard {
    fn hear(&mut self, what: What) {
        assert!(self.end.is_none(), "told after its end: {what:?}");
        match what {
            What::Prompt { done, .. } => self.read.push(done),
            What::Text { text, token, .. } => {
                self.text += &text;
                self.tokens.extend(token);
            }
            What::Finished(answer) => self.end = Some(Ok(*answer)),
            What::Failed(error) => self.end = Some(Err(error)),
            What::PromptLogits { .. } => panic!("nobody asked for them"),
        }
    }

    fn answer(self) -> Answer {
        let answer = self.end.expect("an end").expect("an answer");
        assert_eq!((&answer.text, &answer.token_ids), (&self.text, &self.tokens));
        answer
    }
}

/// Collects all updates until nothing runs, by answer. `between` is called after every step with the first answer's number of
/// tokens.
fn hear(world: &mut World, ids: &[AnswerId], between: &mut dyn FnMut(&mut World, usize)) -> Vec<Heard> {
    let mut heard: Vec<Heard> = ids.iter().map(|_| Heard::default()).collect();
    while world.answers.is_busy() {
        for Update { id, what } in world.step() {
            heard[ids.iter().position(|known| *known == id).expect("one that was asked for")].hear(what);
        }
        between(world, heard[0].tokens.len());
    }
    heard
}

#[test]
fn several_answers_run_together_and_end_each_in_its_way() {
    let mut world = World::new();
    let whole: Vec<Answer> = (0..3).map(|seed| world.alone(request(seed), &[])).collect();
    assert!(whole.iter().all(|answer| answer.text.chars().count() > 6), "{whole:?}");
    // A stop string from the second answer's text; its first occurrence counts.
    let stop: String = whole[1].text.chars().skip(3).take(2).collect();
    let before = whole[1].text.find(&stop).unwrap();

    let ids = [world.ask(request(0), &[]), world.ask(request(1), &[&stop]), world.ask(request(2), &[])];
    let mut cancelled = false;
    let heard = hear(&mut world, &ids, &mut |world, _| {
        if !cancelled && !world.answers.is_busy() {
            panic!("all ended before one could be cancelled");
        }
        // Unknown ids are ignored.
        world.answers.cancel(AnswerId(999));
        if !cancelled {
            cancelled = true;
            world.answers.cancel(ids[2]);
            world.answers.cancel(ids[2]);
        }
    });
    let [first, second, third] =
        <[Answer; 3]>::try_from(heard.into_iter().map(Heard::answer).collect::<Vec<_>>()).unwrap();
    assert_eq!((&first.text, first.finish_reason), (&whole[0].text, Some(FinishReason::Length)));
    assert_eq!((second.text.as_str(), second.finish_reason), (&whole[1].text[..before], Some(FinishReason::Stop)));
    assert!(second.token_ids.len() < LENGTH && whole[1].token_ids.starts_with(&second.token_ids));
    assert!(third.token_ids.len() < LENGTH && whole[2].text.starts_with(&third.text));
    assert_eq!(third.finish_reason, None);
    assert_eq!(world.answers.engine().page_use().used, 0);
}

#[test]
fn a_held_answer_pauses_and_others_take_its_place() {
    let alone: Vec<Answer> = (0..3).map(|seed| World::new().alone(request(seed), &[])).collect();
    // Others run beside it, take its place in the batch, or take its pages.
    let rooms = [
        options(),
        EngineOptions { max_sequences: Some(1), ..options() },
        EngineOptions { kv_tokens: Some(64), kv_limit: Some(64), ..options() },
    ];
    for (room, options) in rooms.into_iter().enumerate() {
        let mut world = World::with(options);
        let held = world.ask(request(0), &[]);
        let mut heard = Heard::default();
        while heard.tokens.len() < 3 {
            world.step().into_iter().for_each(|update| heard.hear(update.what));
        }
        world.answers.hold(held, true);
        let others = [world.ask(request(1), &[]), world.ask(request(2), &[])];
        let mut each: Vec<Heard> = hear(&mut world, &[held, others[0], others[1]], &mut |_, _| {});
        for (at, other) in each.drain(1..).enumerate() {
            assert_eq!(other.answer().text, alone[at + 1].text, "room {room}");
        }
        let more = each.remove(0);
        assert!(more.end.is_none() && more.tokens.len() <= 2, "room {room}: {} more tokens", more.tokens.len());
        heard.text += &more.text;
        heard.tokens.extend(more.tokens);
        // Nothing moves, not even after the device is replaced.
        assert!(!world.answers.is_busy() && world.step().is_empty());
        world.answers.engine().destroy_device();
        assert_eq!(world.alone(request(1), &[]).text, alone[1].text);
        assert!(world.loads.get() == 1 && !world.answers.is_busy() && world.answers.take().is_empty());

        world.answers.hold(held, false);
        while heard.end.is_none() {
            world.step().into_iter().for_each(|update| heard.hear(update.what));
        }
        let answer = heard.answer();
        assert_eq!(
            (answer.text, answer.token_ids.len(), answer.recovered),
            (alone[0].text.clone(), LENGTH, 1),
            "room {room}"
        );
        assert_eq!(world.answers.engine().page_use().used, 0);
    }
    // `run` releases a hold.
    let mut world = World::new();
    let id = world.ask(request(0), &[]);
    world.answers.hold(id, true);
    assert_eq!(block_on(world.answers.run(id, &mut unheard)).unwrap().text, alone[0].text);
    world.answers.hold(id, true);
}

#[test]
fn an_answer_that_is_cancelled_in_its_prompt_has_its_account() {
    let mut world = World::new();
    let long = prompt(200, 5);
    world.alone(greedy(&long[..48], 1), &[]);
    let id = world.ask(greedy(&long, 4), &[]);
    let other = world.ask(request(1), &[]);
    let mut read = Vec::new();
    while read.len() < 2 {
        for update in world.step().into_iter().filter(|update| update.id == id) {
            let What::Prompt { done, total } = update.what else { panic!("{update:?}") };
            assert_eq!(total, 200);
            read.push(done);
        }
    }
    assert!(read[0] > 48 && read[0] < read[1] && read[1] < 200, "{read:?}");
    world.answers.cancel(id);
    let mut told = world.answers.take();
    told.retain(|update| update.id == id);
    let Some(Update { what: What::Finished(answer), .. }) = told.pop() else { panic!("{told:?}") };
    assert_eq!((told.len(), answer.finish_reason), (0, None));
    let usage = answer.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (200, 0));
    assert_eq!((usage.cached_tokens, answer.cache.sources.gpu), (48, 48));
    // The other answer continues, and the computed part of the first stays cached.
    assert_eq!(block_on(world.answers.run(other, &mut unheard)).unwrap().token_ids.len(), LENGTH);
    let again = world.alone(greedy(&long, 1), &[]);
    assert!(again.cache.sources.gpu >= read[1], "{:?} after {read:?}", again.cache.sources);
}

#[test]
fn a_request_that_only_computes_is_an_answer() {
    let mut world = World::new();
    let id = world.ask(greedy(&prompt(60, 3), 0), &[]);
    let heard = hear(&mut world, &[id], &mut |_, _| {}).remove(0);
    assert_eq!(heard.read.last(), Some(&60));
    assert!(heard.read.is_sorted() && heard.read.len() >= 4, "{:?}", heard.read);
    let answer = heard.answer();
    assert_eq!((answer.finish_reason, answer.token_ids.len()), (Some(FinishReason::Length), 0));
    assert!(answer.timings.prefill_tok_s > 0.0);
    // Its prompt may fill the context, since no answer follows.
    let context = world.answers.engine().context();
    let full = world.alone(greedy(&prompt(context, 6), 0), &[]);
    assert_eq!((full.finish_reason, full.usage.prompt_tokens), (Some(FinishReason::Length), context));
    let more = world.answers.ask(greedy(&prompt(context, 6), 1), StopStrings::default(), Instant::now());
    assert!(more.unwrap_err().to_string().contains("the answer included"));
    // It runs beside another answer, whose updates stay queued.
    let other = world.ask(request(2), &[]);
    assert_eq!(block_on(world.answers.warm(&prompt(60, 4), "", &mut unheard)).unwrap().cache.sources.computed, 60);
    let heard = hear(&mut world, &[other], &mut |_, _| {}).remove(0);
    assert_eq!(heard.answer().token_ids.len(), LENGTH);
}

#[test]
fn a_stop_string_in_the_last_token_leaves_the_account() {
    let mut world = World::new();
    let first = world.alone(Request { max_tokens: 1, ..request(0) }, &[]);
    assert!(!first.text.is_empty());
    let again = world.alone(Request { max_tokens: 1, ..request(0) }, &[&first.text]);
    assert_eq!((again.text.as_str(), again.finish_reason), ("", Some(FinishReason::Stop)));
    assert_eq!(again.usage.cached_tokens, 40);
}

#[test]
fn a_reader_can_end_its_answer() {
    let mut world = World::new();
    let whole = world.alone(request(0), &[]);
    let id = world.ask(request(0), &[]);
    let mut text = String::new();
    let mut each = |news: &[What]| {
        news.iter().for_each(|what| {
            if let What::Text { text: more, .. } = what {
                text += more
            }
        });
        Ok(if text.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    };
    let answer = block_on(world.answers.run(id, &mut each)).unwrap();
    assert_eq!((answer.finish_reason, &answer.text), (None, &text));
    assert!(whole.text.starts_with(&text) && whole.text != text);
    // Or with an error of its own.
    let id = world.ask(request(0), &[]);
    let broken = || Error::Request { field: "reader", problem: "is broken".into() };
    let error = block_on(world.answers.run(id, &mut |_| Err(broken()))).unwrap_err();
    assert!(error.to_string().contains("is broken") && !world.answers.is_busy(), "{error}");
    // An answer that has ended cannot be run again.
    assert!(block_on(world.answers.run(id, &mut unheard)).unwrap_err().to_string().contains("has ended"));
}

#[test]
fn text_goes_on_inside_a_character_and_before_a_stop_string() {
    let mut world = World::new();
    // The bytes of "né", cut after the first of the two bytes of é.
    let generated = vec![b'n'.into(), 0xC3];
    let request = Request { generated, ..greedy(&prompt(40, 0), 8) };
    let answer = world.alone(request.clone(), &[]);
    assert_eq!(answer.token_ids[..2], request.generated);
    assert_eq!(answer.usage.completion_tokens, 8);
    assert_eq!(answer.text, tokenizer(world.folder.path()).decode(&answer.token_ids, true));
    assert!(answer.text.starts_with('n'));
    // A stop string of which only the end is still to come.
    let stop: String = answer.text.chars().take(3).collect();
    assert_eq!(world.alone(request.clone(), &[&stop]).text, "");
    // And one that was complete at the start.
    let stopped = world.alone(request, &["n"]);
    assert_eq!((stopped.text.as_str(), stopped.finish_reason), ("", Some(FinishReason::Stop)));
}

#[test]
fn answers_go_on_with_the_same_text_when_the_device_is_lost() {
    let mut world = World::new();
    world.attach();
    let whole: Vec<Answer> = (0..2).map(|seed| world.alone(request(seed), &[])).collect();
    block_on(world.answers.persist()).unwrap();
    let stop: String = whole[1].text.chars().skip(8).take(1).collect();
    let before = whole[1].text.find(&stop).unwrap();
    let ids = [world.ask(request(0), &[]), world.ask(request(1), &[&stop])];
    let mut losses = [2, 9].iter().peekable();
    let heard = hear(&mut world, &ids, &mut |world, tokens| {
        if losses.next_if(|&&at| tokens >= at).is_some() {
            world.answers.engine().destroy_device();
        }
    });
    let [first, second] = <[Answer; 2]>::try_from(heard.into_iter().map(Heard::answer).collect::<Vec<_>>()).unwrap();
    assert_eq!((&first.text, &first.token_ids, first.recovered), (&whole[0].text, &whole[0].token_ids, 2));
    assert_eq!(first.usage.completion_tokens, LENGTH);
    assert_eq!(second.text, whole[1].text[..before]);
    assert_eq!(world.loads.get(), 2);
    // The tiers still have what they had, so it is not computed again.
    assert!(first.cache.sources.memory >= 32, "{:?}", first.cache.sources);
}

#[test]
fn a_device_lost_while_idle_or_in_a_prompt_is_replaced() {
    let mut world = World::new();
    let whole = world.alone(request(0), &[]);
    world.answers.engine().destroy_device();
    let id = world.ask(request(0), &[]);
    // The device is lost during the prompt, which is then computed again.
    let mut lose = true;
    let heard = hear(&mut world, &[id], &mut |world, tokens| {
        if std::mem::take(&mut lose) {
            assert_eq!(tokens, 0);
            world.answers.engine().destroy_device();
        }
    });
    let answer = heard.into_iter().next().unwrap().answer();
    assert_eq!((answer.text, world.loads.get()), (whole.text, 2));
    // Or while KV is being saved: then that KV alone is lost.
    world.attach();
    world.alone(greedy(&prompt(200, 8), 0), &[]);
    assert!(world.answers.engine().has_unsaved());
    world.answers.engine().destroy_device();
    while block_on(world.answers.persist_some()).unwrap() {}
    block_on(world.answers.persist()).unwrap();
    assert_eq!(world.loads.get(), 3);
    assert_eq!(world.alone(request(1), &[]).token_ids.len(), LENGTH);
}

#[test]
fn a_step_that_fails_is_told_to_every_answer() {
    let mut world = World::new();
    *world.refuses.borrow_mut() = Some(Error::Gpu { problem: "the driver is gone".into() });
    let ids = [world.ask(request(0), &[]), world.ask(request(1), &[])];
    let heard = hear(&mut world, &ids, &mut |world, tokens| {
        if tokens == 2 {
            world.answers.engine().destroy_device();
        }
    });
    for heard in heard {
        let error = heard.end.unwrap().unwrap_err();
        assert!(matches!(error, Error::Gpu { .. }), "{error}");
    }
    assert_eq!(world.loads.get(), 1);
    // Later requests find an engine.
    *world.refuses.borrow_mut() = None;
    assert_eq!(world.alone(request(0), &[]).token_ids.len(), LENGTH);
    assert_eq!(world.loads.get(), 2);
}

#[test]
fn a_device_that_is_lost_each_time_is_given_up() {
    let mut world = World::new();
    world.doomed.set(true);
    world.answers.engine().destroy_device();
    let id = world.ask(request(0), &[]);
    let error = block_on(world.answers.run(id, &mut unheard)).unwrap_err();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    assert_eq!(world.loads.get(), MAX_LOSSES);
    world.doomed.set(false);
    assert_eq!(world.alone(request(0), &[]).token_ids.len(), LENGTH);

    // Without a way to reload, every answer ends with the error.
    let engine = load(world.folder.path(), &options());
    let mut bare = Answers::new(engine, &tokenizer(world.folder.path()), None);
    let id = bare.ask(request(0), StopStrings::default(), Instant::now()).unwrap();
    bare.engine().destroy_device();
    let told = block_on(bare.step()).unwrap();
    assert!(
        matches!(&told[..], [Update { id: of, what: What::Failed(Error::DeviceLost { .. }) }] if *of == id),
        "{told:?}"
    );
}
