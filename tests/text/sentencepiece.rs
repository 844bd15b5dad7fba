//! SentencePiece vocabularies in GGUF files: the order of joins, spaces, bytes, and the beginning of a text.

use headstart::text::{GgufVocab, TokenStream, Tokenizer};
use proptest::prelude::*;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// A vocabulary of `<unk>`, `<s>`, `</s>`, every byte, then the pieces.
fn vocab(pieces: &[(&str, f32)]) -> GgufVocab {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes).collect();
    let mut vocab = GgufVocab {
        file: "tiny.gguf".into(),
        model: "llama".into(),
        token_types: [vec![UNKNOWN, CONTROL, CONTROL], vec![BYTE; 256]].concat(),
        scores: vec![0.0; tokens.len()],
        tokens,
        ..GgufVocab::default()
    };
    for (piece, score) in pieces {
        push(&mut vocab, piece, NORMAL, *score);
    }
    vocab
}

fn push(vocab: &mut GgufVocab, token: &str, kind: i32, score: f32) {
    vocab.tokens.push(token.into());
    vocab.token_types.push(kind);
    vocab.scores.push(score);
}

fn words() -> GgufVocab {
    vocab(&[
        ("▁", -9.0),
        ("h", -9.0),
        ("i", -9.0),
        ("▁h", -2.0),
        ("hi", -1.0),
        ("▁hi", -3.0),
        ("▁▁", -4.0),
        ("é", -9.0),
    ])
}

fn spelt(vocab: &GgufVocab, text: &str) -> Vec<String> {
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

#[test]
fn the_best_score_joins_first() {
    assert_eq!(spelt(&words(), "hi hi"), ["▁hi", "▁hi"]);
    assert_eq!(spelt(&words(), "h  hi"), ["▁h", "▁", "▁hi"]);
    let contest = |hi: f32| vocab(&[("▁", -9.0), ("h", -9.0), ("i", -9.0), ("▁h", -2.0), ("hi", hi)]);
    assert_eq!(spelt(&contest(-1.0), "hi"), ["▁", "hi"]);
    assert_eq!(spelt(&contest(-3.0), "hi"), ["▁h", "i"]);
}

#[test]
fn of_equal_scores_the_leftmost_joins_first() {
    let equal = vocab(&[("a", 0.0), ("aa", -0.0), ("aaa", 0.0), ("▁", 0.0)]);
    assert_eq!(spelt(&equal, "aaaaa"), ["▁", "aaa", "aa"]);
    let unscored = GgufVocab { scores: Vec::new(), ..equal };
    assert_eq!(spelt(&unscored, "aaaaa"), ["▁", "aaa", "aa"]);
}

#[test]
fn a_space_is_added_before_a_text_and_after_a_special_token() {
    assert_eq!(spelt(&words(), "hi<s>hi"), ["▁hi", "<s>", "▁hi"]);
    assert_eq!(spelt(&words(), "hi<s> hi</s>"), ["▁hi", "<s>", "▁", "▁hi", "</s>"]);
    assert_eq!(spelt(&words(), ""), [""; 0]);
    assert_eq!(spelt(&words(), " "), ["▁▁"]);
    let mut bare = GgufVocab { add_space_prefix: Some(false), ..words() };
    assert_eq!(spelt(&bare, "hi<s>hi hi"), ["hi", "<s>", "hi", "▁hi"]);
    push(&mut bare, "  ", USER_DEFINED, -1000.0);
    assert_eq!(spelt(&bare, "hi  hi   hi"), ["hi", "  ", "hi", "  ", "▁hi"], "as in the text");
}

#[test]
fn other_characters_are_bytes_and_without_bytes_unknown() {
    assert_eq!(spelt(&words(), "é人\n"), ["▁", "é", "<0xE4>", "<0xBA>", "<0xBA>", "<0x0A>"]);
    let mut few = words();
    for (token, kind) in few.tokens.iter_mut().zip(&few.token_types) {
        if *kind == BYTE {
            token.clear();
        }
    }
    assert_eq!(spelt(&few, "人工h智"), ["▁", "<unk>", "h", "<unk>"]);
    assert_eq!(spelt(&GgufVocab { unk: Some(260), ..few.clone() }, "人"), ["▁", "h"], "the file names another");
    let none = GgufVocab { unk: Some(u32::MAX), ..few };
    let message = Tokenizer::from_gguf(&none).unwrap().encode("人").unwrap_err().to_string();
    assert!(message.contains('人'), "{message}");
}

#[test]
fn control_tokens_do_not_come_from_joining() {
    let mut vocab = words();
    for (token, score) in [("<", -9.0), ("s", -9.0), (">", -9.0), ("<s", -1.0), ("s>", -9.0), ("0", -9.0)] {
        push(&mut vocab, token, NORMAL, score);
    }
    push(&mut vocab, "h<s", CONTROL, 0.0);
    let tokenizer = Tokenizer::from_gguf(&vocab).unwrap();
    assert_eq!(tokenizer.encode("h<s").unwrap(), [tokenizer.id("h<s").unwrap()]);
    assert_eq!(spelt(&GgufVocab { token_types: vocab.token_types.clone(), ..vocab }, "h <s"), ["▁h", "▁", "<s"]);
}

#[test]
fn a_text_begins_with_bos_unless_the_file_says_otherwise() {
    let ids = |vocab: &GgufVocab| Tokenizer::from_gguf(vocab).unwrap().encode_text("hi").unwrap();
    let hi = 264;
    assert_eq!(ids(&words()), [1, hi]);
    assert_eq!(ids(&GgufVocab { bos: Some(2), eos: Some(1), add_eos: Some(true), ..words() }), [2, hi, 1]);
    assert_eq!(ids(&GgufVocab { add_bos: Some(false), ..words() }), [hi]);
    let specials = words().specials();
    assert_eq!(
        ["bos_token", "eos_token", "unk_token", "pad_token"].map(|name| specials.get(name)),
        [Some("<s>"), Some("</s>"), Some("<unk>"), None]
    );
}

#[test]
fn phi_3_drops_the_spaces_after_its_control_tokens() {
    let mut vocab = words();
    push(&mut vocab, "<|user|>", CONTROL, -1000.0);
    assert_eq!(spelt(&vocab, "<|user|>\nhi"), ["<|user|>", "▁", "<0x0A>", "hi"]);
    vocab.name = Some("Phi 3".into());
    assert_eq!(spelt(&vocab, "<|user|>\nhi").len(), 4);
    vocab.name = Some("Phi-3 mini".into());
    assert_eq!(spelt(&vocab, "<|user|>\n hi<s> hi"), ["<|user|>", "▁hi", "<s>", "▁", "▁hi"]);
}

#[test]
fn scores_that_do_not_fit_are_refused() {
    let message = Tokenizer::from_gguf(&GgufVocab { scores: vec![0.0; 7], ..words() }).unwrap_err().to_string();
    assert!(
        message.contains("tiny.gguf") && message.contains("tokenizer.ggml.scores: 7 scores for 267 tokens"),
        "{message}"
    );
}

/// The algorithm by its definition: join the best pair of neighbours repeatedly, the leftmost first.
fn naive(vocab: &GgufVocab, text: &str) -> Vec<String> {
    let score = |piece: &str| {
        let id = vocab.tokens.iter().position(|token| token == piece)?;
        (vocab.token_types[id] == NORMAL).then(|| vocab.scores[id])
    };
    let mut pieces: Vec<String> = format!(" {text}").replace(' ', "▁").chars().map(String::from).collect();
    loop {
        let joined = |at: usize| Some((score(&[&*pieces[at - 1], &*pieces[at]].concat())?, at));
        let best = (1..pieces.len()).filter_map(joined).reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, at)) = best else { break };
        let right = pieces.remove(at);
        pieces[at - 1] += &right;
    }
    pieces
}

proptest! {
    #[test]
    fn ids_are_those_of_the_naive_algorithm(
        pieces in prop::collection::btree_map("[ab▁]{2,6}", -3i8..0, 0..40),
        text in "[ab ]{1,40}",
    ) {
        let scores: Vec<(&str, f32)> = pieces.iter().map(|(piece, score)| (piece.as_str(), f32::from(*score))).collect();
        let vocab = vocab(&[&[("a", -9.0), ("b", -9.0), ("▁", -9.0)], &scores[..]].concat());
        prop_assert_eq!(spelt(&vocab, &text), naive(&vocab, &text));
    }

    #[test]
    fn text_survives_the_round_trip(text in any::<String>(), spaced in "[ \\nhié人🎉]{0,40}", prefixed in any::<bool>()) {
        let tokenizer = Tokenizer::from_gguf(&GgufVocab { add_space_prefix: Some(prefixed), ..words() }).unwrap();
        for text in [text, spaced] {
            let ids = tokenizer.encode(&text).unwrap();
            // The space mark itself is decoded as a space.
            prop_assert_eq!(tokenizer.decode(&ids, false), text.replace('▁', " "));
            let mut stream = TokenStream::new(&tokenizer);
            let mut shown: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            shown.extend(stream.finish());
            prop_assert_eq!(shown, tokenizer.decode(&ids, true));
        }
    }
}
