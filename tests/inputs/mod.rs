//! Models as users bring them, whose files lack something, name something wrongly or have an unusual form, and what the program
//! does with each.
//!
//! The models are made here. Their layers pass everything through, and their head predicts a fixed next token for every token,
//! so the answer is known in advance.

mod described;
mod edges;
mod ends;
mod refused;
mod replaced;
mod sentencepiece;
mod shards;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use headstart::model::{Config, Role};
use headstart::quant::Format;
use headstart::weights::Kind;
use tempfile::TempDir;

use crate::checkpoints::{
    gguf::{Gguf, Meta},
    tiny,
};
use crate::cli::{headstart, json_of};

pub const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}\
                          {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

pub const CONTROL: i32 = 3;
const NORMAL: i32 = 1;

/// A GGUF file that answers `Hi there!<|turn|>` to any prompt that ends with a line break.
pub struct Model {
    pub file: Gguf,
    pub folder: TempDir,
}

/// The control tokens; then come every byte and some words.
const MARKS: [&str; 5] = ["<|none|>", "<|im_start|>", "<|im_end|>", "<|turn|>", "<|odd|>"];
const WORDS: [&str; 8] = ["Hi", "Ġt", "Ġth", "Ġthe", "Ġther", "Ġthere", "so", "Ġso"];
const MERGES: [&str; 8] = ["H i", "Ġ t", "Ġt h", "Ġth e", "Ġthe r", "Ġther e", "s o", "Ġ so"];

/// The id of a control token, a byte's character or a word.
pub fn id(token: &str) -> u32 {
    tokens().iter().position(|known| known == token).unwrap() as u32
}

fn tokens() -> Vec<String> {
    let printable = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    let bytes = printable.chain(0x100..=0x143).map(|c| char::from_u32(c).unwrap().into());
    MARKS.iter().map(|mark| mark.to_string()).chain(bytes).chain(WORDS.map(String::from)).collect()
}

impl Model {
    pub fn new() -> Self {
        let tokens = tokens();
        let config = Config {
            layers: vec![tiny::layer()],
            vocab: tokens.len(),
            context: 512,
            tied_embeddings: false,
            bos: Some(id("<|im_start|>")),
            stop_tokens: vec![id("<|im_end|>")],
            ..tiny::config()
        };
        let mut file = tiny::gguf(&config, Format::F32);
        let script =
            [("Ċ", "Hi"), ("Hi", "Ġthere"), ("Ġthere", "!"), ("!", "<|turn|>"), ("<|turn|>", "so"), ("so", "Ġso")];
        let follows: BTreeMap<u32, u32> = script.iter().map(|(token, next)| (id(token), id(next))).collect();
        let embedding: Vec<f32> =
            tiny::elements(&config, Role::Embedding).iter().map(|x| if *x < 0.0 { -1.0 } else { 1.0 }).collect();
        let mut head = vec![0.0; embedding.len()];
        for (token, next) in follows {
            let row = |id: u32| id as usize * config.hidden..(id as usize + 1) * config.hidden;
            head[row(next)].iter_mut().zip(&embedding[row(token)]).for_each(|(to, from)| *to += from);
        }
        for role in config.roles() {
            let shape = role.shape(&config);
            let elements = match role {
                Role::Embedding => embedding.clone(),
                Role::LmHead => head.clone(),
                _ => vec![if shape.len() == 1 { 1.0 } else { 0.0 }; shape.iter().product()],
            };
            file.tensor_mut(&role.name(Kind::Gguf)).data = Format::F32.quantize(&elements);
        }
        let types = (0..tokens.len()).map(|id| if id < MARKS.len() { CONTROL } else { NORMAL }).collect();
        file.set("tokenizer.ggml.model", "gpt2")
            .set("tokenizer.ggml.pre", "smollm")
            .set("tokenizer.ggml.tokens", Meta::Strings(tokens))
            .set("tokenizer.ggml.token_type", Meta::I32s(types))
            .set("tokenizer.ggml.merges", Meta::Strings(MERGES.map(String::from).to_vec()))
            .set("tokenizer.chat_template", CHATML);
        Self { file, folder: tempfile::tempdir().unwrap() }
    }

    pub fn set(mut self, key: &str, value: impl Into<Meta>) -> Self {
        self.file.set(key, value);
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.file.remove(key);
        self
    }

    /// Writes the file and returns its path.
    pub fn path(&self) -> PathBuf {
        self.write("model.gguf", self.file.build())
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `headstart SUBCOMMAND --model MODEL …`
    pub fn run(&self, subcommand: &str, arguments: &[&str]) -> Command {
        run(subcommand, &self.path(), arguments)
    }

    /// The ids of an answer of up to 8 tokens.
    pub fn answer(&self, arguments: &[&str]) -> Vec<u32> {
        let out = json_of(&mut self.run("generate", &[&["--no-cache", "-n", "8", "--json"], arguments].concat()));
        out["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    pub fn tokenize(&self, arguments: &[&str]) -> Vec<u32> {
        let out = json_of(&mut self.run("tokenize", &[&["--json"], arguments].concat()));
        out["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }
}

pub fn run(subcommand: &str, model: &Path, arguments: &[&str]) -> Command {
    let mut command = headstart(&[subcommand, "--model"]);
    command.arg(model).args(arguments);
    command
}

/// The tokens of `Hi there!`.
pub fn greeting() -> Vec<u32> {
    ["Hi", "Ġthere", "!"].map(id).to_vec()
}
