//! Tokens, streams, stop strings and chat templates, compared with Hugging Face's tokenizers and Jinja2.

mod apart;
mod chats;
mod json;
mod model;
mod sentencepiece;
mod stop;
mod stream;
mod template;
mod vocab;

use serde_json::Value;

/// A reference file of tests/golden.
pub fn golden(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
