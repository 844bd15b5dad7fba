//! The tokenizer and chat template of a model, from a GGUF or a directory, compared with Hugging Face's.

use std::fs;
use std::path::Path;

use headstart::engine::language;
use headstart::text::Message;
use headstart::weights::Checkpoint;
use pollster::block_on;

use crate::support::golden::{Golden, Report, folder};
use crate::support::model_path;

#[test]
fn a_gguf_tokenizes_and_renders_as_transformers_does() {
    hold(&model_path());
}

#[test]
fn a_directory_tokenizes_and_renders_as_transformers_does() {
    let directory = tempfile::tempdir().unwrap();
    let copy = |from: &Path| fs::copy(from, directory.path().join(from.file_name().unwrap())).unwrap();
    for entry in fs::read_dir(folder("smollm2-hf")).unwrap() {
        copy(&entry.unwrap().path());
    }
    // Any weights will do, since they do not affect the text.
    copy(&folder("tiny-wide-bf16").join("model.safetensors"));
    hold(directory.path());
}

fn hold(model: &Path) {
    let mut report = Report::default();
    let golden = Golden::read();
    let checkpoint = block_on(Checkpoint::open(model)).unwrap();
    let tokenizer = language::tokenizer(&checkpoint).unwrap();
    for (name, prompt) in &golden.prompts {
        let ids = tokenizer.encode(&prompt.text).unwrap();
        report.check(ids == prompt.reference.ids, || format!("{name}: ids {ids:?}"));
        let text = tokenizer.decode(&prompt.reference.greedy32, false);
        report.check(text == prompt.greedy_text, || format!("{name}: the greedy tokens read {text:?}"));
    }
    let messages = Message::list(&golden.chat_messages).unwrap();
    let chat = language::template(&checkpoint).unwrap().render(&messages, None, true).unwrap();
    report.check(chat == golden.prompts["chat"].text, || format!("the chat template renders {chat:?}"));
    report.finish();
}
