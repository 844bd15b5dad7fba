//! The engine for JavaScript: a thin layer, and the only Rust that depends on JavaScript.
//!
//! Plain data crosses as JSON. Bytes and tokens cross as typed arrays. Files and the store are JavaScript objects whose methods
//! return promises. Errors are thrown as `{ code, message, ...fields }`. Calls to an engine must not overlap: the caller waits
//! until a promise has settled. Its host, which needs no GPU, may be called at any time.
//!
//! Cost: the events of a step are one JSON text. A read copies its bytes once into this module's memory, which never holds more
//! than one piece of a file.

mod engine;
mod error;
mod events;
mod hash;
mod host;
mod hub;
mod js;
mod load;
mod options;
mod source;
mod store;

use headstart::kv::{Fields, Key, Namespace};
use sha2::Digest;
use wasm_bindgen::prelude::*;

pub use engine::WasmEngine;
pub use host::WasmHost;
pub use hub::{hub_file, hub_name};
pub use load::judge;
pub use options::create_options;

/// SHA-256 of bytes that arrive in pieces.
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

    /// The digest of all bytes so far as 64 hex digits. The next update begins a new digest.
    pub fn digest(&mut self) -> String {
        js::hex(&self.0.finalize_reset())
    }
}

/// The key of the namespace with these `fields`, followed by the keys of a prompt's blocks.
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

/// Logs the message and the place of a panic before the module stops.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| js::log(&panic.to_string())));
}
