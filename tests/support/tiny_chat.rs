//! The tiny Llamas as chat models: a tokenizer of bytes and a template beside their weights, so that the program runs them
//! quickly.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use headstart::text::Tokenizer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::golden;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model directory with the weights of `name`. Every byte of a text is a token, and so is each of the two marks of a message.
pub fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden::folder(name)).unwrap().map(|file| file.unwrap()) {
        let of_the_weights = file.file_name().to_string_lossy().starts_with("model");
        if of_the_weights || file.file_name() == "config.json" {
            let copy = folder.path().join(file.file_name());
            std::fs::copy(file.path(), &copy).unwrap();
            // A file written just now could be written again within the same timestamp, so its digest would not be remembered.
            let long_ago = SystemTime::now() - Duration::from_secs(3600);
            File::options().write(true).open(copy).unwrap().set_modified(long_ago).unwrap();
        }
    }
    let write = |file: &str, value: Value| std::fs::write(folder.path().join(file), value.to_string()).unwrap();
    write("tokenizer.json", tokenizer());
    write("tokenizer_config.json", json!({ "chat_template": TEMPLATE }));
    folder
}

/// Adds tokens for whole texts to a model directory, from id [`WORDS`] on.
pub fn add_words(folder: &Path, words: &[&str]) {
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = words.iter().enumerate().map(|(index, word)| added(WORDS + index, word, false));
    tokenizer["added_tokens"].as_array_mut().unwrap().extend(added);
    std::fs::write(path, tokenizer.to_string()).unwrap();
}

/// The id of the first added word.
pub const WORDS: usize = 258;

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special })
}

/// Replaces the template of a model directory.
pub fn set_template(folder: &Path, template: &str) {
    std::fs::write(folder.join("tokenizer_config.json"), json!({ "chat_template": template }).to_string()).unwrap();
}

/// The prompt of a conversation as tokens, each a byte or a mark.
pub fn prompt(messages: &[(&str, &str)]) -> Vec<u16> {
    let mut tokens = Vec::new();
    let bytes = |tokens: &mut Vec<u16>, text: &str| tokens.extend(text.bytes().map(u16::from));
    for (role, content) in messages {
        tokens.push(256);
        bytes(&mut tokens, &format!("{role}\n{content}"));
        tokens.push(257);
        bytes(&mut tokens, "\n");
    }
    tokens.push(256);
    bytes(&mut tokens, "assistant\n");
    tokens
}

/// The tokenizer of these directories, for models without one.
pub fn bytes() -> Tokenizer {
    Tokenizer::from_json(tokenizer().to_string().as_bytes(), "tokenizer.json").unwrap()
}

fn tokenizer() -> Value {
    // Byte-level BPE spells printable bytes as themselves, and the others as the characters from 256 on.
    let prints = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let spelled = (0..256).map(|byte| if prints(byte) { byte } else { others.next().unwrap() });
    let vocab: Map<String, Value> =
        spelled.enumerate().map(|(id, spelled)| (char::from_u32(spelled).unwrap().to_string(), json!(id))).collect();
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0",
        "added_tokens": [added(256, "<|im_start|>", true), added(257, "<|im_end|>", true)],
        "pre_tokenizer": level,
        "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    })
}
