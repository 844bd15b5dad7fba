//! Checks the normalizers and pre-tokenizers of a tokenizer.json. The `tokenizers` crate trusts their values, and a text would
//! then crash the program. Cost: one walk over the steps, and over the character map of one that has it.

use serde_json::Value;
use tokenizers::normalizers::Precompiled;

use super::budget::Budget;
use super::pattern::FilePattern;
use super::tokenizer::MAX_TOKEN_BYTES;

/// Bytes of the longest replacement in SentencePiece's character map; the known maximum is 33, for U+FDFA.
pub(super) const MAX_LEAF: usize = 48;

/// Checks `value`, the step or list of steps in `field`, with all that it contains. `Err` holds the field and what is wrong.
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
            return Err((inner("pattern.Regex"), "matches empty text, which cannot be replaced".into()));
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

/// Whether a pattern matches the empty string somewhere in two texts of varied characters.
fn matches_nothing(pattern: &FilePattern) -> bool {
    let ascii: String = (0..128u8).map(char::from).collect();
    let texts = [ascii.chars().rev().collect(), ascii, "aA▁1. é\n人  🎉▁▁\t".to_owned()];
    let empty =
        |text: &String| pattern.find(text, &Budget::of(text.len())).is_ok_and(|found| found.lengths().any(|n| n == 0));
    texts.iter().any(empty)
}

/// Checks SentencePiece's character map: the length of a double array, the array, and the zero-terminated texts to which its
/// leaves point.
fn check_characters(step: &Value) -> Result<(), &'static str> {
    const BROKEN: &str = "is not a character map of SentencePiece";
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
        // Every byte must lead to a unit within the array.
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

/// Decodes base64 that has already been checked.
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
