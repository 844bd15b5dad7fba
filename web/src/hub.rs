//! Names on the Hugging Face hub, parsed by the same rules as on the command line.

use headstart::weights::hub::{Name, Wanted, safe_path};
use js_sys::Array;
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::{
    error::{Result, thrown},
    js,
};

/// Parses a name such as `owner/repo:Q8_0` into `{ repo, revision, file? }`.
#[wasm_bindgen(js_name = hubName)]
pub fn hub_name(text: &str) -> Result<JsValue> {
    let Name { repo, file, revision } = Name::parse(text).map_err(thrown)?;
    js::write(&json!({ "repo": repo, "revision": revision, "file": file }))
}

/// The path of the GGUF file that a name selects among the files of its repository; the first one of several shards. `None`
/// if the name selects a directory with safetensors.
#[wasm_bindgen(js_name = hubFile)]
pub fn hub_file(text: &str, files: &Array) -> Result<Option<String>> {
    let files: Vec<String> = files.iter().filter_map(|file| file.as_string()).filter(|file| safe_path(file)).collect();
    let name = Name::parse(text).map_err(thrown)?;
    Ok(match name.choose(&files).map_err(thrown)? {
        Wanted::Gguf(file) => Some(file.to_owned()),
        Wanted::Checkpoint => None,
    })
}
