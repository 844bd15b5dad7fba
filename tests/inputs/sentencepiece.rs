//! Files with a SentencePiece vocabulary.

use super::{Model, greeting, id, tokens};
use crate::checkpoints::gguf::Meta;
use crate::cli::{json_of, stdout};

/// The model with its vocabulary in SentencePiece's spelling, without scores.
fn respelt() -> Model {
    let tokens = tokens().iter().map(|token| token.replace('Ġ', "▁").replace('Ċ', "<0x0A>")).collect();
    Model::new()
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.pre", "default")
        .set("tokenizer.ggml.eos_token_id", id("<|turn|>"))
        .set("tokenizer.ggml.tokens", Meta::Strings(tokens))
        .without("tokenizer.ggml.merges")
}

#[test]
fn a_file_with_a_sentencepiece_vocabulary_answers() {
    let model = respelt();
    assert_eq!(model.answer(&["-p", "Hi there"]), greeting());
    assert_eq!(stdout(&mut model.run("generate", &["--no-cache", "-p", "Hi there"])), "Hi there!\n");
    assert_eq!(model.answer(&["--raw", "-p", "\n"]), greeting());
}

#[test]
fn a_text_begins_with_bos_and_a_space() {
    let (bos, space, there) = (id("<|im_start|>"), id("Ġ"), id("Ġthere"));
    let model = respelt();
    assert_eq!(model.tokenize(&["-p", "there there"]), [bos, there, there]);
    assert_eq!(model.tokenize(&["--no-bos", "-p", "<|im_end|>Hi"]), [id("<|im_end|>"), space, id("Hi")]);
    let score = json_of(&mut model.run("score", &["--json", "-p", "there"]));
    assert_eq!(score["token_ids"], serde_json::json!([bos, there]));
    let bare = model.set("tokenizer.ggml.add_bos_token", Meta::Bool(false));
    assert_eq!(bare.tokenize(&["-p", "there"]), [there]);
    let bare = bare.set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
    assert_eq!(bare.tokenize(&["-p", "Hi there"]), [id("Hi"), there]);
    let best = Meta::F32s(tokens().iter().map(|token| if token == "Ġth" { 1.0 } else { 0.0 }).collect());
    assert_eq!(bare.set("tokenizer.ggml.scores", best).tokenize(&["-p", " th"]), [id("Ġth")]);
}

#[test]
fn a_vocabulary_that_lacks_even_the_space_still_runs() {
    let model = Model::new().set("tokenizer.ggml.model", "llama");
    let letters = ["t", "h", "e", "r", "e"].map(id);
    let expected = [&[id("<|im_start|>"), 0, id("Hi"), 0][..], &letters].concat();
    assert_eq!(model.tokenize(&["-p", "Hi there"]), expected, "unknown text becomes Llama's unknown token");
    assert_eq!(model.answer(&["-p", "Hi"]).len(), 8);
}
