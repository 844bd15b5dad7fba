//! Conversions between JavaScript values and JSON.

use js_sys::{Object, Reflect};
use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub fn log(text: &str);
}

/// A plain value of the caller as JSON. `undefined` becomes null, and each half of a surrogate pair U+FFFD.
///
/// # Errors
/// `bad_request` with the field that cannot be read.
pub fn read(value: &JsValue) -> Result<Value, JsValue> {
    parse(value).map_err(|problem| {
        let is_at_fault = |name: &JsValue| Reflect::get(value, name).is_ok_and(|value| parse(&value).is_err());
        let field =
            Object::keys(value.unchecked_ref::<Object>()).iter().find(is_at_fault).and_then(|name| name.as_string());
        let field = field.unwrap_or_else(|| "request".into());
        fault("bad_request", &format!("{field}: cannot be read as plain data: {problem}"), Some(&field))
    })
}

fn parse(value: &JsValue) -> Result<Value, String> {
    let text = js_sys::JSON::stringify(value).map_err(|thrown| message(&thrown))?;
    let Some(text) = text.as_string() else { return Ok(Value::Null) };
    let mut bytes = text.into_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += found + 1;
        // `JSON.stringify` escapes a surrogate only without its other half.
        if bytes[at..].starts_with(b"ud") {
            bytes[at + 1..at + 5].copy_from_slice(b"fffd");
        }
        at += 1;
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// An argument that must be a string.
///
/// # Errors
/// `bad_input` with its name.
pub fn text(value: &JsValue, argument: &str) -> Result<String, JsValue> {
    value.as_string().ok_or_else(|| bad_input(argument, "must be a string"))
}

pub fn write(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let text = serde_json::to_string(value).map_err(|error| internal(&error.to_string()))?;
    js_sys::JSON::parse(&text)
}

pub fn set(object: &JsValue, field: &str, value: &JsValue) -> Result<(), JsValue> {
    Reflect::set(object, &field.into(), value).map(|_| ())
}

pub fn internal(message: &str) -> JsValue {
    fault("internal", message, None)
}

/// An argument or an option that is invalid. `problem` is read after its name.
pub fn bad_input(field: &str, problem: &str) -> JsValue {
    fault("bad_input", &format!("{field}: {problem}"), Some(field))
}

fn fault(code: &str, message: &str, field: Option<&str>) -> JsValue {
    let mut plain = json!({ "code": code, "message": message });
    if let Some(field) = field {
        plain["field"] = json!(field);
    }
    write(&plain).unwrap_or_else(|_| message.into())
}

/// The message of a thrown value.
pub fn message(thrown: &JsValue) -> String {
    let text = |field: &str| Reflect::get(thrown, &field.into()).ok().and_then(|value| value.as_string());
    text("message").or_else(|| thrown.as_string()).unwrap_or_else(|| format!("{thrown:?}"))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
