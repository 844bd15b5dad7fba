//! Models in shards, as llama.cpp's gguf-split writes them.

use std::fs;
use std::path::Path;

use headstart::weights::Checkpoint;
use pollster::block_on;
use serde_json::json;

use super::{Model, greeting, run};
use crate::checkpoints::gguf::{Gguf, Meta};
use crate::cli::{headstart, json_of, refusal};

fn name(number: usize, count: usize) -> String {
    format!("tiny-{number:05}-of-{count:05}.gguf")
}

/// The greeting model in `count` shards. The first has all metadata and no tensor, as with `--no-tensor-first-split`.
fn split(count: usize) -> (Model, Vec<Gguf>) {
    let mut model = Model::new();
    let total = model.file.tensors.len();
    let mut shards: Vec<Gguf> = (0..count).map(|_| Gguf::default()).collect();
    for (at, tensor) in model.file.tensors.drain(..).enumerate() {
        shards[1 + at * (count - 1) / total].tensors.push(tensor);
    }
    shards[0].meta = std::mem::take(&mut model.file.meta);
    for (number, shard) in shards.iter_mut().enumerate() {
        let short = |x: usize| Meta::Raw(2, (x as u16).to_le_bytes().to_vec());
        shard.set("split.no", short(number)).set("split.count", short(count));
        shard.set("split.tensors.count", Meta::I32(total as i32));
    }
    (model, shards)
}

fn write(model: &Model, shards: &[Gguf]) {
    for (number, shard) in (1..).zip(shards) {
        model.write(&name(number, shards.len()), shard.build());
    }
}

fn answer(path: &Path) -> serde_json::Value {
    json_of(&mut run("generate", path, &["--no-cache", "-n", "3", "--json", "-p", "hello"]))["token_ids"].take()
}

fn digest(path: &Path) -> String {
    block_on(block_on(Checkpoint::open(path)).unwrap().digest(&mut |_, _| {})).unwrap()
}

#[test]
fn all_shards_are_read_whichever_is_named() {
    let (model, shards) = split(3);
    write(&model, &shards);
    let folder = model.folder.path();
    let digests: Vec<String> = (1..=3).map(|number| digest(&folder.join(name(number, 3)))).collect();
    assert!(digests.iter().all(|known| *known == digest(folder)), "{digests:?}");
    for path in [folder.join(name(1, 3)), folder.join(name(3, 3)), folder.to_owned()] {
        assert_eq!(answer(&path), json!(greeting()), "{}", path.display());
    }
    let info = json_of(headstart(&["models", "info", "--json"]).arg(folder.join(name(2, 3))));
    let whole = json_of(headstart(&["models", "info", "--json"]).arg(Model::new().path()));
    for fact in ["architecture", "parameters", "formats", "layers", "tokenizer", "problem"] {
        assert_eq!(info[fact], whole[fact], "{fact}");
    }
    // The digest covers every shard's bytes.
    for number in 1..=3 {
        let path = folder.join(name(number, 3));
        let mut bytes = fs::read(&path).unwrap();
        let (sound, at) = (bytes.clone(), bytes.len() - 1);
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_ne!(digest(folder), digests[0], "shard {number}");
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn a_shard_that_is_missing_is_named() {
    let (model, shards) = split(3);
    write(&model, &shards);
    let folder = model.folder.path();
    for number in 1..=3 {
        let missing = folder.join(name(number, 3));
        fs::remove_file(&missing).unwrap();
        let other = folder.join(name(number % 3 + 1, 3));
        for path in [&other, folder] {
            let message = refusal(&mut run("generate", path, &["--no-cache", "-p", "Hi"]));
            let says = format!("split.count: the model has 3 shards, and {} is missing; put all", missing.display());
            assert!(message.contains(&says), "{message}");
        }
        model.write(&name(number, 3), shards[number - 1].build());
    }
    // Under a name of its own a shard has no others beside it.
    let path = model.write("alone.gguf", shards[1].build());
    let message = refusal(&mut run("generate", &path, &["--no-cache", "-p", "Hi"]));
    assert!(
        message.contains("alone.gguf: split.count: the model has 3 shards, and shard 1 of 3 is missing"),
        "{message}"
    );
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let says = |edit: &dyn Fn(&mut [Gguf]), words: &[&str]| {
        let (model, mut shards) = split(3);
        edit(&mut shards);
        write(&model, &shards);
        let message = refusal(&mut run("generate", &model.folder.path().join(name(1, 3)), &["--no-cache", "-p", "Hi"]));
        assert!(words.iter().all(|word| message.contains(word)), "{message:?} does not say all of {words:?}");
    };
    let [first, second, third] = [1, 2, 3].map(|number| name(number, 3));
    says(&|shards| _ = shards[1].set("split.count", 4), &[&second, "split.count: it is 4, but 3 in ", &first]);
    says(&|shards| _ = shards[2].remove("split.count"), &[&third, "split.count: the field is missing"]);
    says(&|shards| _ = shards[2].remove("split.no"), &[&third, "split.no: the field is missing"]);
    says(&|shards| _ = shards[2].set("split.no", 3), &[&third, "split.no: it is 3, but split.count is 3"]);
    says(&|shards| _ = shards[2].set("split.no", 1), &[&third, "split.no: it is 1, as in ", &second]);
    says(&|shards| _ = shards[0].set("split.tensors.count", 99), &[&first, "split.tensors.count: it is 99, but"]);
    let twice = |shards: &mut [Gguf]| {
        let tensor = shards[1].tensors.remove(0);
        shards[2].tensor(&tensor.name, &[32], headstart::quant::Format::F32, &[0.0; 32]);
        shards[1].tensors.insert(0, tensor);
    };
    says(&twice, &[&third, "tensor token_embd.weight: it is also in ", &second]);
}

#[test]
fn what_only_looks_like_a_shard_is_a_whole_model() {
    let model = Model::new().set("split.count", 0).set("split.no", 0);
    for name in ["tiny-00001-of-00002.gguf", "tiny-00003-of-00002.gguf", "tiny-1-of-2.gguf", "tiny-00001-of-00001.gguf"]
    {
        let path = model.write(name, model.file.build());
        assert!(block_on(Checkpoint::open(&path)).is_ok(), "{name}");
    }
    let message = refusal(&mut run("generate", model.folder.path(), &["--no-cache", "-p", "Hi"]));
    assert!(message.contains("config.json: the file is missing; give the .gguf file itself"), "{message}");
}
