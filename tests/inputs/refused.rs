//! Files that cannot run: the error gives the reason and a remedy.

use headstart::text::Tokenizer;
use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::{Value, json};

use super::{Model, id, run};
use crate::checkpoints::gguf::Meta;
use crate::cli::{refusal, stdout};
use crate::support::tiny_chat;

#[test]
fn logits_that_are_not_finite_are_an_error() {
    let hidden = 64;
    for (value, row) in [(f32::NAN, id("Hi")), (f32::INFINITY, id("z")), (f32::NAN, id("<|none|>"))] {
        let mut model = Model::new();
        let place = row as usize * hidden * 4;
        model.file.tensor_mut("output.weight").data[place..place + 4].copy_from_slice(&value.to_le_bytes());
        for sampling in [&[][..], &["--temperature", "1", "--top-k", "40"], &["--repetition-penalty", "1.1"]] {
            let arguments = [&["--no-cache", "--raw", "-p", "Hi there"], sampling].concat();
            let message = refusal(&mut model.run("generate", &arguments));
            assert!(message.contains("model.gguf: ") && message.contains("not finite"), "{message}");
            assert!(message.contains("behind token 1;"), "{message}");
        }
        let message = refusal(&mut model.run("score", &["-p", "Hi there"]));
        assert!(message.contains("not finite") && message.contains("behind token 0;"), "{message}");
    }
    assert!(stdout(&mut Model::new().run("score", &["-p", "Hi there"])).contains("perplexity"));
}

#[test]
fn words_without_merges_are_refused() {
    let model = Model::new().without("tokenizer.ggml.merges");
    for (command, arguments) in [("tokenize", &["-p", "Hi there"][..]), ("generate", &["--no-cache", "-p", "Hi"])] {
        let message = refusal(&mut model.run(command, arguments));
        assert!(
            message.contains("tokenizer.ggml.merges: the file lacks its merges, and \"Hi\" needs some"),
            "{message}"
        );
    }
    assert!(
        Model::new()
            .set("tokenizer.ggml.merges", Meta::Strings(vec![]))
            .run("tokenize", &["-p", "a"])
            .output()
            .unwrap()
            .status
            .code()
            == Some(1)
    );
    // A vocabulary of bytes needs no merges.
    let folder = tiny_chat::folder("tiny-odd-f16");
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let read = |json: &Value| Tokenizer::from_json(json.to_string().as_bytes(), "tokenizer.json");
    assert!(read(&json).is_ok());
    json["model"]["vocab"]["the"] = json!(258);
    let message = read(&json).unwrap_err().to_string();
    assert!(message.contains("model.merges: the file lacks its merges, and \"the\" needs some"), "{message}");
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 98362432\n", "0".repeat(64));
    let model = Model::new();
    let path = model.write("pointer.gguf", &pointer);
    let says = |message: &str, name: &str| {
        for part in [name, "Git LFS pointer", "98362432 bytes", "git lfs pull"] {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    };
    for command in ["generate", "tokenize"] {
        says(&refusal(&mut run(command, &path, &["-p", "Hi"])), "pointer.gguf");
    }
    for name in ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"] {
        let folder = tiny_chat::folder("tiny-odd-f16");
        std::fs::write(folder.path().join(name), pointer.replace('\n', "\r\n")).unwrap();
        says(&block_on(Checkpoint::open(folder.path())).err().unwrap().to_string(), name);
    }
    let folder = tiny_chat::folder("tiny-wide-f32");
    std::fs::write(folder.path().join("model-00003-of-00005.safetensors"), &pointer).unwrap();
    says(&block_on(Checkpoint::open(folder.path())).err().unwrap().to_string(), "model-00003");
}
