//! The engine for JavaScript: a thin face, and the only Rust that names the language.
//!
//! Plain data crosses as JSON, bytes and tokens as typed arrays. Files and the store are JavaScript objects that answer
//! with promises. Errors are thrown as `{ code, message, ...fields }`. Everything of an engine is called in turn: nothing
//! while a promise of its is pending. Its host's part, which needs no GPU, may be called at any time.
//!
//! Cost: a step's events are one JSON text; a read is one copy into this module's memory, of which a whole file never
//! takes more than one piece.

mod engine;
mod error;
mod events;
mod host;
mod hub;
mod js;
mod load;
mod source;
mod store;

use headstart::kv::{Fields, Key, Namespace};
use sha2::Digest;
use wasm_bindgen::prelude::*;

pub use engine::WasmEngine;
pub use host::WasmHost;
pub use hub::{hub_file, hub_name};
pub use load::judge;

/// SHA-256 of bytes that come in pieces.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 hex digits of all that came; then it begins anew.
    pub fn digest(&mut self) -> String {
        js::hex(&self.0.finalize_reset())
    }
}

/// The names of a prompt's blocks in every store, behind that of the namespace which `fields` make.
#[wasm_bindgen(js_name = prefixKeys)]
pub fn prefix_keys(fields: &JsValue, tokens: &[u32]) -> error::Result<Vec<String>> {
    let plain = js::read(fields)?;
    let entries = plain.as_object().into_iter().flatten();
    let entries = entries.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let fields =
        Fields::from_entries(entries).ok_or_else(|| js::internal("the fields are not those of a namespace"))?;
    let namespace = Namespace::new(fields);
    let keys = Key::chain(&namespace, tokens);
    Ok(std::iter::once(namespace.key()).chain(keys).map(|key| key.to_string()).collect())
}

/// A panic says where it was before the module stops.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| js::log(&panic.to_string())));
}
