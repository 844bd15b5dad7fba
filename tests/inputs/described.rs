//! `models info` of files with a readable header, whether or not they run.

use std::path::Path;

use headstart::model::Role;
use headstart::weights::Kind;
use serde_json::{Value, json};

use super::{Model, run};
use crate::checkpoints::{gguf::Meta, safetensors as st, tiny};
use crate::cli::{headstart, json_of, refusal, stdout};

fn info(path: &Path) -> (Value, String) {
    let shown = stdout(headstart(&["models", "info"]).arg(path));
    (json_of(headstart(&["models", "info", "--json"]).arg(path)), shown)
}

/// The description of a model that does not run. Its reason must contain all `words`, and be the error of `generate`.
#[track_caller]
fn refused(path: &Path, words: &[&str]) -> (Value, String) {
    let (facts, shown) = info(path);
    let problem = facts["problem"].as_str().unwrap();
    assert!(words.iter().all(|word| problem.contains(word)), "{problem:?} does not say all of {words:?}");
    assert!(shown.contains(&format!("runs          no: {problem}\n")), "{shown}");
    let message = refusal(&mut run("generate", path, &["--no-cache", "-p", "Hi"]));
    assert!(message.contains(problem), "{message:?} is not {problem:?}");
    (facts, shown)
}

#[test]
fn a_gguf_file_of_any_architecture_tensor_type_and_tokenizer() {
    let (sound, shown) = info(&Model::new().set("general.name", "Tiny Greeter").path());
    assert_eq!((&sound["name"], &sound["problem"]), (&json!("Tiny Greeter"), &Value::Null));
    assert_eq!((&sound["layers"], &sound["architecture"]), (&json!(1), &json!("llama")));
    assert!(shown.starts_with("name          Tiny Greeter\n") && shown.contains("runs          yes"), "{shown}");

    let (other, _) =
        refused(&Model::new().set("general.architecture", "novel").path(), &["\"novel\" is not supported"]);
    assert_eq!((&other["name"], &other["architecture"]), (&json!("model.gguf"), &json!("novel")));
    assert_eq!(other["layers"], Value::Null);
    for fact in ["tokenizer", "formats", "parameters"] {
        assert_eq!(other[fact], sound[fact], "{fact}");
    }
    let (other, _) = refused(&Model::new().set("general.architecture", 7).path(), &["general.architecture"]);
    assert_eq!((&other["architecture"], &other["formats"]), (&json!("unknown"), &sound["formats"]));

    for (kind, called) in [(29, "iq1_m"), (30_000, "number 30000")] {
        let mut model = Model::new();
        model.file.tensor_mut("blk.0.ffn_up.weight").kind = kind;
        let says = format!("type {called} of tensor blk.0.ffn_up.weight is not supported; take a file");
        let (other, shown) = refused(&model.path(), &[&says]);
        assert_eq!((&other["layers"], &other["parameters"]), (&json!(1), &sound["parameters"]));
        assert_eq!(other["formats"][called], json!({ "tensors": 1, "bytes": 0 }));
        assert!(shown.contains(&format!("1 × {called}")), "{shown}");
    }

    let (other, _) =
        refused(&Model::new().set("tokenizer.ggml.model", "novel").path(), &["tokenizer.ggml.model \"novel\""]);
    assert_eq!((&other["layers"], &other["tokenizer"]), (&json!(1), &json!("novel (smollm)")));
    let model = Model::new().set("tokenizer.ggml.model", Meta::Bool(true));
    assert_eq!(refused(&model.path(), &["tokenizer.ggml.model"]).0["tokenizer"], "unknown (smollm)");
}

#[test]
fn a_directory_of_any_model_type_and_tensor_type() {
    let config = tiny::config();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny-novel");
    std::fs::create_dir(&path).unwrap();
    for (name, bytes) in tiny::directory(&config) {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let write = |model_type: Value| {
        let mut json = tiny::config_json(&config);
        json["model_type"] = model_type;
        std::fs::write(path.join("config.json"), json.to_string()).unwrap();
    };
    write(json!("novel"));
    let (facts, shown) = refused(&path, &["\"novel\" is not supported"]);
    assert_eq!((&facts["name"], &facts["architecture"]), (&json!("tiny-novel"), &json!("novel")));
    assert_eq!((&facts["layers"], &facts["formats"]["f32"]["tensors"]), (&Value::Null, &json!(config.roles().len())));
    assert!(shown.contains("size          ") && shown.contains("tensors       "), "{shown}");
    write(json!(7));
    assert_eq!(refused(&path, &["model_type"]).0["architecture"], "unknown");

    write(json!("llama"));
    let name = Role::FinalNorm.name(Kind::HuggingFace);
    let header = format!("{{\"{name}\":{{\"dtype\":\"F8_E4M3\",\"shape\":[2,4],\"data_offsets\":[0,8]}}}}");
    std::fs::write(path.join("model.safetensors"), st::file(&header, &[0; 8])).unwrap();
    let (facts, _) = info(&path);
    assert_eq!(
        (&facts["parameters"], &facts["formats"]),
        (&json!(8), &json!({ "F8_E4M3": { "tensors": 1, "bytes": 0 } }))
    );
    assert!(facts["problem"].is_string(), "{facts}");
}
