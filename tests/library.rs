//! `models.json`: its contents, that this program runs what it lists, and what each name resolves to.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::cli::{headstart, json_of, stdout};
use crate::hub::{Home, path};
use crate::hub_server::COMMIT;
use crate::inputs::Model;
use crate::support::model_path;

fn library() -> Vec<Value> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn text<'a>(listed: &'a Value, field: &str) -> &'a str {
    listed[field].as_str().unwrap_or_else(|| panic!("{field} of {listed}"))
}

#[test]
fn every_listed_model_has_each_field_and_a_unique_name() {
    let library = library();
    let printed = stdout(&mut headstart(&["models", "ls", "--available", "--json"]));
    assert_eq!(serde_json::from_str::<Vec<Value>>(&printed).unwrap(), library, "the program has the same list");
    for field in ["name", "title", "file"] {
        let values: BTreeSet<_> = library.iter().map(|listed| text(listed, field)).collect();
        assert_eq!(values.len(), library.len(), "each {field} once");
    }
    let mut last = 0;
    for listed in &library {
        let name = text(listed, "name");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)), "{name}");
        assert!(text(listed, "file").ends_with(".gguf") && !text(listed, "license").is_empty(), "{listed}");
        assert!(["run", "base run", "not run"].contains(&text(listed, "checked")), "{listed}");
        for field in ["context", "layers", "kv_heads", "head_dim", "vocab", "hidden"] {
            assert!(listed[field].as_u64().is_some_and(|value| value > 0), "{field} of {name}");
        }
        let bytes = listed.get("bytes").map_or(last, |bytes| bytes.as_u64().unwrap());
        assert!(bytes >= last, "{name} is listed after a larger one");
        last = bytes;
    }
}

#[test]
fn every_listed_architecture_runs() {
    let novel =
        json_of(headstart(&["models", "info", "--json"]).arg(Model::new().set("general.architecture", "novel").path()));
    let (_, known) = novel["problem"].as_str().unwrap().split_once("this version runs: ").unwrap();
    let known: Vec<_> = known.split(", ").map(|name| name.trim_end_matches('.')).collect();
    for listed in library() {
        assert!(known.contains(&text(&listed, "architecture")), "{listed} is none of {known:?}");
    }
}

#[test]
fn a_name_resolves_to_its_repository_and_file() {
    let home = Home::new();
    for listed in library() {
        let [name, repo, file] = ["name", "repo", "file"].map(|field| text(&listed, field));
        let mut state = home.server.state();
        state.repo = repo.into();
        state.files = [(file.to_owned(), (name.as_bytes().to_vec(), true))].into();
        state.requests.clear();
        drop(state);
        let pulled = path(&home.run(&["pull", "--quiet", name]));
        assert_eq!(fs::read(&pulled).unwrap(), name.as_bytes());
        let folder = format!("models--{}/snapshots/{COMMIT}/{file}", repo.replace('/', "--"));
        assert!(pulled.ends_with(&folder), "{} is not {folder}", pulled.display());
        let asked: Vec<_> = home.server.state().requests.iter().map(|request| request.path.clone()).collect();
        assert_eq!(asked[0], format!("/api/models/{repo}/revision/main"));
        assert!(asked.contains(&format!("/{repo}/resolve/{COMMIT}/{file}")), "{asked:?}");
        assert_eq!(path(&home.run(&["path", name])), pulled);
    }
}

#[test]
fn the_table_shows_a_models_size_and_memory() {
    let table = stdout(&mut headstart(&["models", "ls", "--available"]));
    let rows: Vec<Vec<_>> =
        table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(rows.len(), 1 + library().len());
    // 30 layers of 3 heads of 64, keys and values of 2 bytes, 4,096 tokens: 94,371,840 bytes beside the weights.
    assert_eq!(rows[1], ["smollm2-135m", "98.36 MB", "192.73 MB", "8192", "apache-2.0", "run"]);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
}

#[test]
fn the_entry_of_the_real_model_matches_its_header() {
    let listed = &library()[0];
    let info = json_of(headstart(&["models", "info", "--json"]).arg(model_path()));
    for field in ["architecture", "context", "layers", "kv_heads", "head_dim", "vocab", "hidden"] {
        assert_eq!(listed[field], info[field], "{field}");
    }
    assert_eq!(listed["bytes"], info["file_bytes"]);
}
