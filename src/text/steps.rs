//! The steps of a tokenizer.json that a text goes through before its model: the `tokenizers` crate takes what they hold on
//! trust, and a text then ends the program. Cost: one walk over the steps, and over the characters that one of them maps.

use serde_json::Value;
use tokenizers::normalizers::Precompiled;

use super::budget::Budget;
use super::pattern::FilePattern;
use super::tokenizer::MAX_TOKEN_BYTES;

/// Bytes of the longest text that SentencePiece's map of characters may give for one; it gives 33 for U+FDFA.
pub(super) const MAX_LEAF: usize = 48;

/// Checks the value of `field`, a step or a list of them, and what it holds. `Err` names the field and what is wrong.
pub(super) fn check(field: &str, value: &Value) -> Result<(), (String, String)> {
    let inner = |name: &str| format!("{field}.{name}");
    if value["prepend"] == "" {
        return Err((inner("prepend"), "is empty".into()));
    }
    if value["length"] == 0 {
        return Err((inner("length"), "pieces of no characters".into()));
    }
    if value["type"] == "Precompiled" || value.get("precompiled_charsmap").is_some() {
        check_characters(value).map_err(|problem| (inner("precompiled_charsmap"), problem.into()))?;
    }
    if value.get("content").is_some() && value["pattern"]["String"] == "" {
        return Err((inner("pattern"), "is empty".into()));
    }
    if let Some(source) = value["pattern"]["Regex"].as_str() {
        let pattern = FilePattern::new(source).map_err(|problem| (inner("pattern.Regex"), problem))?;
        if value.get("content").is_some() && matches_nothing(&pattern) {
            return Err((inner("pattern.Regex"), "finds places without text, which cannot be replaced".into()));
        }
    }
    for name in ["prepend", "content", "pattern.String"] {
        let text = name.split('.').fold(value, |value, name| &value[name]).as_str().unwrap_or_default();
        if text.len() > MAX_TOKEN_BYTES {
            return Err((inner(name), format!("has {} bytes, more than {MAX_TOKEN_BYTES}", text.len())));
        }
    }
    match value {
        Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(index, step)| check(&format!("{field}[{index}]"), step))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| check(&format!("{field}.{name}"), value)),
        _ => Ok(()),
    }
}

/// Whether a pattern finds a place of no length in texts with all sorts of neighbours.
fn matches_nothing(pattern: &FilePattern) -> bool {
    let ascii: String = (0..128u8).map(char::from).collect();
    let texts = [ascii.chars().rev().collect(), ascii, "aA▁1. é\n人  🎉▁▁\t".to_owned()];
    let empty =
        |text: &String| pattern.find(text, &Budget::of(text.len())).is_ok_and(|found| found.lengths().any(|n| n == 0));
    texts.iter().any(empty)
}

/// Checks SentencePiece's map of characters: the length of a double array, the array, and the texts that its leaves point
/// to, each up to a zero.
fn check_characters(step: &Value) -> Result<(), &'static str> {
    const BROKEN: &str = "is no map of characters that SentencePiece wrote";
    serde_json::from_str::<Precompiled>(&step.to_string()).map_err(|_| BROKEN)?;
    let bytes = base64(step["precompiled_charsmap"].as_str().ok_or(BROKEN)?);
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(BROKEN)?;
    let (array, texts) = rest.split_at_checked(u32::from_le_bytes(*length) as usize / 4 * 4).ok_or(BROKEN)?;
    let units: Vec<u32> =
        array.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
    let texts = std::str::from_utf8(texts).map_err(|_| BROKEN)?;
    let offset = |unit: u32| ((unit >> 10) as usize) << ((unit & 0x200) >> 6);
    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(*units.first().ok_or(BROKEN)?)];
    while let Some(base) = open.pop() {
        // Every byte leads somewhere within the array.
        if base | 0xff >= units.len() {
            return Err(BROKEN);
        }
        if std::mem::replace(&mut seen[base], true) {
            continue;
        }
        for byte in 1..=255 {
            let at = base ^ byte;
            let unit = units[at];
            if unit & 0x8000_00ff != byte as u32 {
                continue;
            }
            let next = at ^ offset(unit);
            let leaf = || units.get(next).map(|unit| (unit & 0x7fff_ffff) as usize);
            let sound = |at: usize| {
                let text = texts.get(at..)?;
                Some(text.find('\0').unwrap_or(text.len()) <= MAX_LEAF)
            };
            if unit & 0x100 != 0 && leaf().and_then(sound) != Some(true) {
                return Err(BROKEN);
            }
            open.push(next);
        }
    }
    Ok(())
}

/// The bytes of sound base64.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::with_capacity(text.len() / 4 * 3));
    for value in text.bytes().filter_map(|c| ALPHABET.iter().position(|&known| known == c)) {
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
