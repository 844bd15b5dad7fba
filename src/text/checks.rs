//! Checks what the `tokenizers` crate takes on trust from a tokenizer.json, before the crate reads it.

use serde_json::Value;

use super::tokenizer::{MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, needs_merges};

/// The largest known files have 2.3 million values.
const MAX_VALUES: usize = 6 << 20;
/// Bytes of all added tokens together. Each byte costs about a hundred in the automaton that finds them.
pub(super) const MAX_ADDED_BYTES: usize = 2 << 20;
/// Bytes of the affix that marks part of a word.
const MAX_AFFIX_BYTES: usize = 64;
/// Bytes of a token in a Unigram vocabulary; known models use at most 48.
const MAX_UNIGRAM_BYTES: usize = 256;
/// Characters of a word that WordPiece splits; files say 100.
const MAX_WORD: u64 = 1000;

/// `Err` holds the field, and what is wrong with it.
type Wrong = Result<(), (String, String)>;

/// Limits how many values a JSON text has, since each takes about a hundred bytes once parsed.
pub(super) fn json(bytes: &[u8]) -> Result<(), String> {
    let (mut values, mut inside, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b',' | b'[' | b'{' if !inside => values += 1,
            _ => {}
        }
    }
    match values > MAX_VALUES {
        true => Err(format!("{values} values, more than the {MAX_VALUES} allowed")),
        false => Ok(()),
    }
}

/// Checks the added tokens, which are matched before a text is split.
pub(super) fn added(tokens: &Value) -> Wrong {
    let mut bytes = 0;
    for (index, token) in tokens.as_array().into_iter().flatten().enumerate() {
        let wrong = |problem: String| Err((format!("added_tokens[{index}]"), problem));
        let content = token["content"].as_str().unwrap_or_default();
        bytes += content.len();
        if bytes > MAX_ADDED_BYTES {
            return wrong(format!("the tokens up to it have more than the {MAX_ADDED_BYTES} bytes allowed"));
        }
        // In a run of such tokens, each would take in the whole run.
        if content.trim().is_empty() && (token["lstrip"] == true || token["rstrip"] == true) {
            return wrong("is white space that takes in the white space beside it".into());
        }
    }
    Ok(())
}

/// Checks the fields that only some kinds of model have.
fn kind(model: &Value) -> Wrong {
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let affix = model[name].as_str().unwrap_or_default();
        if affix.len() > MAX_AFFIX_BYTES {
            return Err((format!("model.{name}"), format!("has {} bytes, more than {MAX_AFFIX_BYTES}", affix.len())));
        }
    }
    if model["max_input_chars_per_word"].as_u64().is_some_and(|most| most > MAX_WORD) {
        return Err(("model.max_input_chars_per_word".into(), format!("is more than {MAX_WORD}")));
    }
    if model["merges"].as_array().is_some_and(|merges| merges.len() > MAX_MERGES) {
        return Err(("model.merges".into(), format!("more than {MAX_MERGES} merges")));
    }
    let Some(pieces) = model["vocab"].as_array() else { return Ok(()) };
    if pieces.len() > MAX_TOKENS {
        return Err(("model.vocab".into(), format!("{} tokens, more than {MAX_TOKENS}", pieces.len())));
    }
    for (id, piece) in pieces.iter().enumerate() {
        let problem = match (piece[0].as_str(), piece[1].as_f64()) {
            (Some(""), _) => "is empty",
            (Some(token), _) if token.len() > MAX_UNIGRAM_BYTES => "is too long",
            (Some(_), Some(score)) if score.abs() <= f64::from(f32::MAX) => continue,
            _ => "is not a token with its score",
        };
        return Err((format!("model.vocab[{id}]"), problem.into()));
    }
    Ok(())
}

/// Checks that ids are in range, and that every merge joins two tokens into a third.
pub(super) fn model(model: &Value) -> Wrong {
    kind(model)?;
    let in_range = |id: Option<u64>| id.is_some_and(|id| id < MAX_TOKENS as u64);
    if let Some(vocab) = model["vocab"].as_object() {
        let is_bpe = matches!(model["type"].as_str(), Some("BPE") | None);
        if is_bpe
            && model["merges"].as_array().is_none_or(Vec::is_empty)
            && let Some(token) = vocab.keys().find(|token| needs_merges(token))
        {
            return Err(("model.merges".into(), format!("the file lacks its merges, and {token:?} needs some")));
        }
        for (token, id) in vocab {
            if !in_range(id.as_u64()) {
                return Err((
                    format!("model.vocab.{token}"),
                    format!("{id} is not an id from 0 to {}", MAX_TOKENS - 1),
                ));
            }
            if token.len() > MAX_TOKEN_BYTES {
                return Err((
                    "model.vocab".into(),
                    format!("{id} has {} bytes, more than {MAX_TOKEN_BYTES}", token.len()),
                ));
            }
        }
        for (index, merge) in model["merges"].as_array().into_iter().flatten().enumerate() {
            let pair = match merge {
                Value::String(pair) => pair.split_once(' '),
                Value::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
                _ => None,
            };
            // Old merges files begin with a version header.
            if merge.as_str().is_some_and(|line| line.starts_with("#version")) {
                continue;
            }
            let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
            let known = pair.is_some_and(|(left, right)| {
                let whole = right.strip_prefix(prefix).map(|right| format!("{left}{right}"));
                [Some(left.to_owned()), Some(right.to_owned()), whole]
                    .iter()
                    .all(|token| token.as_ref().is_some_and(|token| vocab.contains_key(token)))
            });
            if !known {
                return Err((
                    format!("model.merges[{index}]"),
                    format!("{merge} does not join two tokens of the vocabulary into a third"),
                ));
            }
        }
    }
    Ok(())
}
