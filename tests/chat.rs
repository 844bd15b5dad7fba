//! `Chat`, the conversation for Rust programs, compared with the bare engine; and what it leaves on disk.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use headstart::chat::pieces::Pieces;
use headstart::{
    Answer, Answers, Body, CacheOptions, Chat, ChatBuilder, Checkpoint, Content, Engine, EngineOptions, Error,
    FinishReason, Guard, Input, Language, Message, PackKey, PackSigner, Piece, Progress, SamplingOverrides,
    SharedStore, Sources, Stage, What, unheard,
};
use pollster::block_on;
use serde_json::{Value, json};
use web_time::Instant;

use crate::cache::{Home, RULES, SHIP, WHALE, asked, files, reused};
use crate::cli::{json_of, str_of};
use crate::support::tiny_chat;
#[cfg(unix)]
use crate::support::{process, redis::Redis};

const TINY: &str = "tiny-odd-f16";
/// Tokens of an answer.
const LENGTH: usize = 24;

/// Samples printable ASCII alone, so that the text of an answer is read back as the same tokens.
fn sampling(seed: u64) -> SamplingOverrides {
    let logit_bias = (0..32).chain(127..1001).map(|id| (id, -100.0)).collect();
    SamplingOverrides { temperature: Some(1.0), seed: Some(seed), logit_bias, ..SamplingOverrides::default() }
}

fn cache(home: &Home) -> CacheOptions {
    CacheOptions { dir: Some(home.dir()), key: Some(home.path("kv.key")), ..CacheOptions::default() }
}

fn builder(home: &Home) -> ChatBuilder {
    Chat::builder(home.model.path()).system(RULES).sampling(sampling(5)).max_tokens(LENGTH).cache(cache(home))
}

/// Says `text`, and checks that the pieces add up to the answer.
fn say(chat: &mut Chat, text: &str) -> Answer {
    let mut heard = String::new();
    let answer = chat.say(text, |piece| heard += piece.text).unwrap();
    assert_eq!(answer.text, heard);
    answer
}

/// What the bare engine answers to a conversation, without reuse.
fn by_itself(home: &Home, messages: &[Message], seed: u64) -> Answer {
    let checkpoint = block_on(Checkpoint::open(home.model.path())).unwrap();
    let language = Language::open(&checkpoint).unwrap();
    let engine = block_on(Engine::load(&checkpoint, &EngineOptions::default(), &mut |_| {})).unwrap();
    let mut answers = Answers::new(engine, &language.tokenizer, None);
    let body = Body {
        sampling: sampling(seed),
        max_tokens: Some(LENGTH),
        no_cache: true,
        ..Body::from(Input::from(messages.to_vec()))
    };
    let tokens = language.tokens(&body.input).unwrap();
    let request = body.request(tokens, answers.engine().config(), answers.engine().context(), || 0);
    let id = answers.ask(request, body.stops, Instant::now()).unwrap();
    block_on(answers.run(id, &mut unheard)).unwrap()
}

fn roles(chat: &Chat) -> Vec<&str> {
    chat.messages().iter().map(|message| message.role.as_str()).collect()
}

#[test]
fn a_conversation_answers_as_the_engine_and_reuses_its_turns() {
    let home = Home::new(TINY);
    let mut chat = builder(&home).exact().open().unwrap();
    let mut messages = vec![Message::new("system", RULES)];
    let mut turn = |chat: &mut Chat, seed: u64, text: &str, answer: &Answer| {
        messages.push(Message::new("user", text));
        let expected = by_itself(&home, &messages, seed);
        assert_eq!(answer.token_ids, expected.token_ids[..answer.token_ids.len()], "{text}");
        assert_eq!(answer.usage.prompt_tokens, expected.usage.prompt_tokens);
        messages.push(Message::new("assistant", &answer.text));
        assert_eq!(chat.messages(), messages);
        expected
    };

    let first = say(&mut chat, WHALE);
    assert_eq!(turn(&mut chat, 5, WHALE, &first).text, first.text);
    assert_eq!((first.usage.completion_tokens, first.finish_reason), (LENGTH, Some(FinishReason::Length)));
    assert_eq!(first.cache.sources, Sources { computed: first.usage.prompt_tokens, ..Sources::default() });

    // The reader stops the second answer in the middle.
    let mut heard = String::new();
    let second = chat.say(SHIP, |piece| {
        heard += piece.text;
        if heard.len() < 7 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let second = second.unwrap();
    assert_eq!((second.finish_reason, &second.text), (None, &heard));
    let whole = turn(&mut chat, 6, SHIP, &second);
    assert!(heard.len() >= 7 && whole.text.starts_with(&heard) && whole.text != heard, "{heard:?} of {whole:?}");
    // With `exact`, only KV from prefill is reused: that of the prompt before.
    assert_eq!(second.usage.cached_tokens, first.usage.prompt_tokens);

    // The part that was said stays in the history, and the third turn continues from there.
    let third = say(&mut chat, "And the captain?");
    assert_eq!(turn(&mut chat, 7, "And the captain?", &third).text, third.text);
    assert_eq!(third.usage.cached_tokens, second.usage.prompt_tokens);
    assert_eq!(third.cache.sources.gpu, third.usage.cached_tokens);
}

#[test]
fn another_process_continues_the_conversation_from_disk() {
    let home = Home::new(TINY);
    let mut chat = builder(&home).open().unwrap();
    let first = say(&mut chat, WHALE);
    let known = first.usage.prompt_tokens + LENGTH - 1;
    let second = say(&mut chat, SHIP);
    assert_eq!(second.cache.sources.gpu, known, "what decoding computed is reused too");
    let (history, prompt) = (chat.messages().to_vec(), second.usage.prompt_tokens);
    drop(chat);

    // All of the history except its last token, whose KV was never computed.
    let mut restarted = builder(&home).messages(history[1..].to_vec()).open().unwrap();
    assert_eq!(restarted.messages(), history);
    let third = say(&mut restarted, "And the captain?");
    let known = prompt + LENGTH - 1;
    let computed = third.usage.prompt_tokens - known;
    assert_eq!(third.cache.sources, Sources { disk: known, computed, ..Sources::default() });
    drop(restarted);

    // The command line finds it too.
    let conversation: Value = history[..4]
        .iter()
        .map(|message| {
            let Content::Text(text) = &message.content else { panic!("{message:?}") };
            json!({ "role": message.role, "content": text })
        })
        .collect();
    let file = home.path("conversation.json");
    std::fs::write(&file, conversation.to_string()).unwrap();
    let mut program = home.with_model(&["generate", "-n", "1", "--json", "--messages", file.to_str().unwrap()]);
    reused(&json_of(&mut program), &[("disk", prompt)]);
}

#[test]
fn a_chat_finds_what_the_program_stored() {
    let home = Home::new(TINY);
    let stored = json_of(&mut home.generate(WHALE));
    let mut chat = builder(&home).open().unwrap();
    let answer = say(&mut chat, WHALE);
    assert_eq!(json!(answer.usage.prompt_tokens), stored["usage"]["prompt_tokens"]);
    assert_eq!(answer.cache.sources.disk, answer.usage.prompt_tokens);
    // `save` makes KV available without waiting for the chat to be dropped.
    chat.save().unwrap();
    let mut other = builder(&home).messages(chat.messages()[1..].to_vec()).open().unwrap();
    assert_eq!(say(&mut other, SHIP).cache.sources.disk, answer.usage.prompt_tokens + LENGTH - 1);
}

/// Runs in a process of its own, whose environment sets the platform's directories.
#[cfg(unix)]
#[test]
fn the_default_directory_is_the_programs() {
    let Some(folder) = process::child() else {
        let folder = tempfile::tempdir().unwrap();
        let mut again = process::again("chat::the_default_directory_is_the_programs", folder.path(), process::PLAIN);
        again.env("XDG_CACHE_HOME", folder.path().join("cache")).env("XDG_DATA_HOME", folder.path().join("data"));
        process::succeeds(again);
        assert!(
            folder.path().join("cache/headstart/kv").is_dir() && folder.path().join("data/headstart/kv.key").is_file()
        );
        return;
    };
    let model = tiny_chat::folder(TINY);
    let open = || Chat::builder(model.path()).sampling(sampling(5)).max_tokens(4).open().unwrap();
    let first = say(&mut open(), WHALE);
    let program = |dir: &str| {
        let mut command = crate::cli::headstart(&["generate", "-n", "1", "--json", "-p", WHALE, "--model"]);
        command.arg(model.path()).env("XDG_CACHE_HOME", folder.join(dir)).env("XDG_DATA_HOME", folder.join("data"));
        json_of(&mut command)
    };
    reused(&program("cache"), &[("disk", first.usage.prompt_tokens)]);
    reused(&program("elsewhere"), &[]);
}

#[test]
fn without_a_directory_turns_reuse_the_gpus_pages_and_nothing_is_written() {
    let home = Home::new(TINY);
    let mut chat = builder(&home).no_cache_dir().open().unwrap();
    let first = say(&mut chat, WHALE);
    assert_eq!(say(&mut chat, SHIP).cache.sources.gpu, first.usage.prompt_tokens + LENGTH - 1);
    drop(chat);
    assert!(!home.dir().exists() && !home.path("kv.key").exists());
}

#[test]
fn an_unusable_key_file_disables_the_directory_alone() {
    let home = Home::new(TINY);
    std::fs::write(home.path("kv.key"), "no key").unwrap();
    let mut chat = builder(&home).open().unwrap();
    assert!(
        chat.notes().iter().any(|note| note.contains("nothing is kept for later runs: kv-key: ")),
        "{:?}",
        chat.notes()
    );
    say(&mut chat, WHALE);
    drop(chat);
    assert!(!home.dir().exists());
}

#[test]
fn packs_are_reused_and_only_those_of_whom_one_trusts() {
    let (giver, taker) = (Home::new(TINY), Home::new(TINY));
    let system = giver.file("system.json", &asked(WHALE)[..1]);
    let pack = taker.path("rules.kv.safetensors");
    let [file, pack_file] = [str_of(&system), str_of(&pack)];
    let exported = json_of(&mut giver.with_model(&["prefix", "export", file, "-o", pack_file, "--json"]));
    let of = |pack: &Path, trust: Vec<PackKey>| CacheOptions { packs: vec![pack.to_owned()], trust, ..cache(&taker) };
    let mut chat = builder(&taker).cache(of(&pack, Vec::new())).open().unwrap();
    assert_eq!(json!(say(&mut chat, WHALE).cache.sources.pack), exported["tokens"]);
    let refused = |options: CacheOptions| builder(&taker).cache(options).open().err().unwrap();
    let stranger = PackSigner::new(&[7; 32]).key();
    let errors = [refused(of(&pack, vec![stranger])), refused(of(&system, Vec::new()))];
    assert!(errors.iter().all(|error| matches!(error, Error::Pack { .. })), "{errors:?}");
    assert!(errors[0].to_string().starts_with(pack_file), "{errors:?}");
    let salted = CacheOptions { salt: "other".into(), ..of(&pack, Vec::new()) };
    assert!(refused(salted).to_string().contains("another salt"));
}

#[cfg(unix)]
#[test]
fn machines_share_a_store() {
    let redis = Redis::start(&[]);
    let guard = |secret: &str| Guard::Secret { secret: secret.into(), encrypt: true };
    let open = |home: &Home, guard: Guard| {
        let shared = Some(SharedStore { url: redis.url(), guard });
        let deadline = Duration::from_secs(60);
        builder(home).cache(CacheOptions { shared, deadline, ..cache(home) }).open().unwrap()
    };
    let (one, other, third) = (Home::new(TINY), Home::new(TINY), Home::new(TINY));
    let first = say(&mut open(&one, guard("of all who share a store")), WHALE);
    let sources = |home: &Home, guard: Guard| say(&mut open(home, guard), WHALE).cache.sources;
    assert_eq!(sources(&other, guard("of all who share a store")).remote, first.usage.prompt_tokens);
    assert_eq!(sources(&third, guard("of whom nobody knows")).remote, 0);
    // What anybody may have written is not kept under this user's key.
    let open_to_all = Home::new(TINY);
    say(&mut open(&open_to_all, Guard::Trust), WHALE);
    assert!(files(&open_to_all.dir(), ".safetensors").is_empty());
}

#[cfg(unix)]
#[test]
fn a_named_directory_that_cannot_be_used_is_an_error() {
    let home = Home::new(TINY);
    std::fs::create_dir(home.dir()).unwrap();
    std::fs::set_permissions(home.dir(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = builder(&home).open().err().unwrap();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn dropping_the_future_cancels_the_answer_and_keeps_the_conversation() {
    let home = Home::new(TINY);
    let whole = say(&mut builder(&home).no_cache_dir().open().unwrap(), WHALE);
    let mut chat = builder(&home).no_cache_dir().open().unwrap();
    let (heard, polls) = (RefCell::new(String::new()), Cell::new(0));
    {
        let mut saying = pin!(chat.say_async(WHALE, |piece| *heard.borrow_mut() += piece.text));
        while heard.borrow().len() < 3 {
            assert!(
                saying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
                "it yields between steps"
            );
            polls.set(polls.get() + 1);
        }
    }
    assert!(polls.get() > 2 && whole.text.starts_with(&*heard.borrow()), "{heard:?}");
    assert_eq!(roles(&chat), ["system"]);
    assert!(!chat.answers_mut().is_busy() && chat.engine().page_use().used == 0);
    // The same question gets the same answer as if never asked before, and the prompt's KV is reused.
    let answer = say(&mut chat, WHALE);
    assert_eq!((answer.text, answer.usage.cached_tokens), (whole.text, whole.usage.prompt_tokens));
}

#[test]
fn two_chats_take_turns_on_one_thread() {
    let home = Home::new(TINY);
    let (mut one, mut two) = (builder(&home).open().unwrap(), builder(&home).open().unwrap());
    let order = RefCell::new(Vec::new());
    let (mut first, mut second) = (
        pin!(one.say_async(WHALE, |_| order.borrow_mut().push(1))),
        pin!(two.say_async(SHIP, |_| order.borrow_mut().push(2))),
    );
    let mut context = Context::from_waker(Waker::noop());
    let (mut first_done, mut second_done) = (false, false);
    while !(first_done && second_done) {
        first_done = first_done || matches!(first.as_mut().poll(&mut context), Poll::Ready(Ok(_)));
        second_done = second_done || matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(_)));
    }
    let order = order.borrow();
    let switches = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches > LENGTH, "{order:?}");
}

#[test]
fn a_failing_reader_ends_the_answer_with_its_error() {
    let home = Home::new(TINY);
    let mut chat = builder(&home).no_cache_dir().open().unwrap();
    let broken = |_: Piece<'_>| Err::<(), _>(Error::Request { field: "reader", problem: "is broken".into() });
    let error = chat.say(WHALE, broken).unwrap_err();
    assert_eq!((error.to_string().as_str(), roles(&chat)), ("reader: is broken", vec!["system"]));
    assert_eq!(say(&mut chat, WHALE).usage.completion_tokens, LENGTH);
}

#[test]
fn a_full_context_is_an_error_that_names_a_remedy() {
    let home = Home::new(TINY);
    let context = EngineOptions { context: Some(192), ..EngineOptions::default() };
    let mut chat = builder(&home).engine(context).no_cache_dir().open().unwrap();
    let mut turns = 0;
    let error = loop {
        match chat.say("Go on, please.", |_| {}) {
            Ok(_) => turns += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Context { tokens, context: 192, most: 512 } if tokens >= 192), "{error:?}");
    assert!(error.to_string().contains("drop the oldest messages"), "{error}");
    assert!(turns > 0 && chat.messages().len() == 1 + 2 * turns);
    // Without its oldest turn the conversation continues.
    chat.messages_mut().drain(1..3);
    assert_eq!(chat.context(), 192);
    say(&mut chat, "Go on, please.");
    chat.clear();
    assert_eq!(roles(&chat), ["system"]);
}

#[test]
fn histories_are_edited_retried_and_swapped() {
    let home = Home::new(TINY);
    let mut chat = builder(&home).no_cache_dir().open().unwrap();
    let first = say(&mut chat, WHALE);
    chat.messages_mut().pop();
    let again = chat.answer(|_| {}).unwrap();
    assert_eq!(again.usage.cached_tokens, first.usage.prompt_tokens);
    assert_ne!(again.text, first.text, "each answer samples with its own seed");
    // Switch to another conversation and back.
    let mut other = vec![Message::new("user", SHIP)];
    std::mem::swap(chat.messages_mut(), &mut other);
    assert_eq!(chat.answer(|_| {}).unwrap().usage.cached_tokens, 1, "the token that every prompt begins with");
    std::mem::swap(chat.messages_mut(), &mut other);
    let next = say(&mut chat, SHIP);
    assert_eq!(next.usage.cached_tokens, first.usage.prompt_tokens + LENGTH - 1);
    // The same seed from the start gives the same conversation.
    assert_eq!(say(&mut builder(&home).no_cache_dir().open().unwrap(), WHALE).text, first.text);
    // Greedy from now on.
    chat.sampling_mut().temperature = Some(0.0);
    chat.clear();
    let greedy = say(&mut chat, WHALE).text;
    chat.clear();
    assert_eq!(say(&mut chat, WHALE).text, greedy);
    chat.messages_mut().clear();
    assert!(chat.answer(|_| {}).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn run_reports_every_update() {
    let home = Home::new(TINY);
    let mut loading = std::rc::Rc::new(RefCell::new(Vec::new()));
    let stages = loading.clone();
    let mut chat =
        builder(&home).on_progress(move |Progress { stage, .. }| stages.borrow_mut().push(stage)).open().unwrap();
    let stages = std::rc::Rc::make_mut(&mut loading).take();
    assert!(stages.contains(&Stage::Weights) && stages.contains(&Stage::Shaders));
    let (mut read, mut text) = (0, String::new());
    let mut each = |news: &[What]| {
        for what in news {
            match what {
                What::Prompt { done, .. } => read = *done,
                What::Text { text: more, .. } => text += more,
                _ => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let answer = block_on(chat.run(Some(Message::new("user", WHALE)), &mut each)).unwrap();
    assert_eq!((read, text), (answer.usage.prompt_tokens, answer.text));
    assert_eq!(roles(&chat), ["system", "user", "assistant"]);
}

#[test]
fn invalid_settings_are_refused_before_the_model_is_loaded() {
    let home = Home::new(TINY);
    let refused = |builder: ChatBuilder, words: &str| {
        let loads = |_| panic!("the model is loaded");
        let error = builder.on_progress(loads).open().map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} has no {words:?}");
    };
    refused(Chat::builder(home.path("nothing.gguf")), "nothing.gguf");
    refused(builder(&home).stops([""]), "stop[0] is empty");
    refused(
        builder(&home).sampling(SamplingOverrides { top_p: Some(2.0), ..SamplingOverrides::default() }),
        "top_p: 2 is not",
    );
    std::fs::write(home.model.path().join("tokenizer_config.json"), "{}").unwrap();
    refused(builder(&home), "chat template: the model has none");
}

#[test]
fn a_stop_text_ends_an_answer() {
    let home = Home::new(TINY);
    let whole = say(&mut builder(&home).no_cache_dir().open().unwrap(), WHALE).text;
    let (before, stop) = (&whole[..8], &whole[8..10]);
    assert!(!before.contains(stop), "{whole:?}");
    let answer = say(&mut builder(&home).no_cache_dir().stops([stop]).open().unwrap(), WHALE);
    assert_eq!((answer.text.as_str(), answer.finish_reason), (before, Some(FinishReason::Stop)));
}

#[test]
fn pieces_tell_whether_the_model_is_thinking() {
    let home = Home::new(TINY);
    let open = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}<|im_start|>\
                {% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}";
    tiny_chat::set_template(home.model.path(), open);
    for thinks in [true, false] {
        let mut chat = builder(&home).thinking(thinks).no_cache_dir().open().unwrap();
        let mut heard = Vec::new();
        let answer = chat.say(WHALE, |piece| heard.push(piece.thinking)).unwrap();
        assert!(!heard.is_empty() && heard.iter().all(|thinking| *thinking == thinks), "{:?}", answer.text);
    }
}

#[test]
fn thinking_is_recognised_however_the_text_is_split() {
    let heard = |text: &str, thinks: bool, size: usize| {
        let (mut pieces, mut heard) = (Pieces::new(thinks), [String::new(), String::new()]);
        let mut each = |piece: Piece<'_>| {
            assert!(!piece.text.is_empty());
            heard[usize::from(!piece.thinking)].push_str(piece.text);
            Ok(ControlFlow::Continue(()))
        };
        for chunk in text.chars().collect::<Vec<_>>().chunks(size) {
            let _ = pieces.push(&chunk.iter().collect::<String>(), &mut each).unwrap();
        }
        pieces.finish(&mut each).unwrap();
        heard
    };
    let table = [
        ("plain <think> text", false, "", "plain <think> text"),
        ("<think>\nwell</think>\n\nHello", false, "<think>\nwell</think>", "\n\nHello"),
        ("\n<think>a < b </thin</think>é", false, "\n<think>a < b </thin</think>", "é"),
        ("still </think>done", true, "still </think>", "done"),
        ("cut </thi", true, "cut </thi", ""),
        ("<thinking aloud", false, "", "<thinking aloud"),
        ("<thi", false, "", "<thi"),
        (" ", false, "", " "),
        ("", false, "", ""),
    ];
    for (text, thinks, thought, said) in table {
        for size in 1..12 {
            assert_eq!(heard(text, thinks, size), [thought, said], "{text:?} in pieces of {size}");
        }
    }
    // A reader that breaks still gets the step's other pieces, and its break is returned.
    let (mut pieces, mut count) = (Pieces::new(true), 0);
    let mut each = |_: Piece<'_>| {
        count += 1;
        Ok(if count == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    assert!(pieces.push("a</think>b", &mut each).unwrap().is_break());
    assert_eq!(count, 2);
}

#[test]
fn an_answer_is_split_into_what_it_thinks_and_says() {
    let home = Home::new(TINY);
    let answer = say(&mut builder(&home).no_cache_dir().open().unwrap(), WHALE);
    assert_eq!((answer.thinking(), answer.said()), (None, answer.text.as_str()));
    let table = [
        ("<think>\nwell\n</think>\n\nHello", Some("well"), "Hello"),
        ("well\n</think>\n\nHello", Some("well"), "Hello"),
        ("<think>cut", Some("cut"), ""),
        ("say <think> and </think>", None, "say <think> and </think>"),
    ];
    for (text, thought, said) in table {
        let answer = Answer { text: text.into(), ..answer.clone() };
        assert_eq!((answer.thinking(), answer.said()), (thought, said), "{text:?}");
    }
}
