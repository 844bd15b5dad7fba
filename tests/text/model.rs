//! The tokenizer metadata of the test model, read by a minimal GGUF parser.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use headstart::text::{GgufVocab, Tokenizer};
use serde_json::{Value, json};

pub fn metadata() -> &'static HashMap<String, Value> {
    static METADATA: OnceLock<HashMap<String, Value>> = OnceLock::new();
    METADATA.get_or_init(|| {
        let path = std::env::var("HEADSTART_TEST_MODEL").map_or_else(
            |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf"),
            Into::into,
        );
        let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = std::io::BufReader::new(file);
        let magic = bytes::<8>(&mut reader);
        assert_eq!(&magic[..4], b"GGUF");
        let [_tensors, entries] = [0; 2].map(|_: u8| u64::from_le_bytes(bytes(&mut reader)));
        (0..entries).map(|_| (string(&mut reader), value_of_next_kind(&mut reader))).collect()
    })
}

/// The unchecked vocabulary of the test model.
pub fn vocab() -> GgufVocab {
    let key = |key: &str| metadata().get(&format!("tokenizer.ggml.{key}"));
    let strings =
        |name: &str| key(name).unwrap().as_array().unwrap().iter().map(|s| s.as_str().unwrap().into()).collect();
    let id = |name: &str| key(name).and_then(Value::as_u64).map(|id| id as u32);
    GgufVocab {
        file: "test.gguf".into(),
        model: key("model").unwrap().as_str().unwrap().into(),
        pre: key("pre").map(|pre| pre.as_str().unwrap().into()),
        tokens: strings("tokens"),
        token_types: key("token_type")
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_i64().unwrap() as i32)
            .collect(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        ..GgufVocab::default()
    }
}

pub fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_gguf(&vocab()).unwrap())
}

fn bytes<const N: usize>(reader: &mut impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).unwrap();
    bytes
}

fn string(reader: &mut impl Read) -> String {
    let mut text = vec![0; u64::from_le_bytes(bytes(reader)) as usize];
    reader.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn value_of_next_kind(reader: &mut impl Read) -> Value {
    let kind = u32::from_le_bytes(bytes(reader));
    value(reader, kind)
}

fn value(reader: &mut impl Read, kind: u32) -> Value {
    match kind {
        0 | 1 | 7 => json!(bytes::<1>(reader)[0]),
        2 | 3 => json!(u16::from_le_bytes(bytes(reader))),
        4 | 5 => json!(u32::from_le_bytes(bytes(reader))),
        6 => json!(f32::from_le_bytes(bytes(reader))),
        8 => json!(string(reader)),
        9 => {
            let kind = u32::from_le_bytes(bytes(reader));
            let count = u64::from_le_bytes(bytes(reader));
            (0..count).map(|_| value(reader, kind)).collect()
        }
        10 | 11 => json!(u64::from_le_bytes(bytes(reader))),
        12 => json!(f64::from_le_bytes(bytes(reader))),
        kind => panic!("GGUF value type {kind}"),
    }
}
