//! Errors for JavaScript: a code for programs, a message for people, and the fields that belong to the code.

use headstart::error::Error;
use js_sys::Reflect;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use crate::js;

pub type Result<T, E = JsValue> = std::result::Result<T, E>;

const BROWSERS: &str = "Chrome and Edge have it from version 113, Safari from 26, Firefox from 141 on Windows and from 145 on \
                        Macs with Apple silicon; on Linux it may have to be switched on, and a page must come from https or \
                        localhost";
const DRIVERS: &str = "update the graphics driver, or switch hardware acceleration on in the browser's settings; on Linux WebGPU \
                       may have to be switched on as well; in Node install the card's Vulkan driver";

/// What the engine's advice says of the command line, and what a program says here.
const NAMES: [(&str, &str); 8] = [
    (" (--context)", ""),
    ("--context", "context"),
    ("--kernels", "kernels"),
    ("--kv", "kv"),
    ("--other-adapter", "otherAdapter: true"),
    (" or --quantize q4_0", ""),
    (", with --quantize q4_k where they are too large,", ""),
    ("`headstart generate --raw`", "`completions.create`"),
];

/// The value to throw.
pub fn thrown(error: Error) -> JsValue {
    let (code, fields) = classify(&error);
    let message = match &error {
        // The engine's own advice is to install a driver, which a page cannot do.
        Error::NoAdapter { problem } if has_webgpu() => {
            format!("WebGPU is there, but no graphics card that can be used ({problem}): {DRIVERS}")
        }
        Error::NoAdapter { problem } => format!("no WebGPU here ({problem}): {BROWSERS}"),
        other => NAMES.iter().fold(other.to_string(), |message, (flag, here)| message.replace(flag, here)),
    };
    let mut plain = json!({ "code": code, "message": message });
    for (field, value) in fields {
        plain[field] = value;
    }
    js::write(&plain).unwrap_or_else(|other| other)
}

fn has_webgpu() -> bool {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    navigator.and_then(|navigator| Reflect::get(&navigator, &"gpu".into())).is_ok_and(|gpu| gpu.is_truthy())
}

/// As [`thrown`], for a tokenizer or a template that does not load. The model is at fault, not the request.
pub fn bad_model(error: Error) -> JsValue {
    with_code(error, "bad_model")
}

/// As [`thrown`], for an argument or an option. No request is at fault.
pub fn bad_input(error: Error) -> JsValue {
    with_code(error, "bad_input")
}

fn with_code(error: Error, code: &str) -> JsValue {
    let value = thrown(error);
    let _ = js::set(&value, "code", &code.into());
    value
}

fn classify(error: &Error) -> (&'static str, Vec<(&'static str, Value)>) {
    match error {
        Error::NoAdapter { .. } => (if has_webgpu() { "no_adapter" } else { "no_webgpu" }, vec![]),
        Error::DeviceLost { .. } => ("device_lost", vec![]),
        Error::GpuMemory { needed, .. } => ("out_of_memory", vec![("bytes", json!(needed))]),
        Error::Format { file, .. } | Error::Tensor { file, .. } | Error::Unsupported { file, .. } => {
            ("bad_model", vec![("file", json!(file))])
        }
        Error::Logits { model, .. } => ("bad_model", vec![("file", json!(model))]),
        Error::Request { field, .. } => ("bad_request", vec![("field", json!(field))]),
        Error::Context { .. } => ("bad_request", vec![("field", json!("prompt"))]),
        Error::UnknownField { name, .. } => ("bad_request", vec![("field", json!(name))]),
        Error::Template { .. } => ("bad_request", vec![("field", json!("messages"))]),
        Error::Tokenizer { .. } => ("bad_request", vec![]),
        Error::Shader { .. } => ("shader", vec![]),
        Error::Pack { pack, .. } => ("pack_rejected", vec![("pack", json!(pack))]),
        Error::Store { .. } => ("storage", vec![]),
        _ => ("internal", vec![]),
    }
}
