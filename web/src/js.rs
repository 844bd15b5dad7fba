//! Conversions between JavaScript values and JSON.

use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub fn log(text: &str);
}

/// A plain value as JSON. `undefined` becomes null.
pub fn read(value: &JsValue) -> Result<Value, JsValue> {
    let text = js_sys::JSON::stringify(value)?;
    let Some(text) = text.as_string() else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|error| internal(&error.to_string()))
}

pub fn write(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let text = serde_json::to_string(value).map_err(|error| internal(&error.to_string()))?;
    js_sys::JSON::parse(&text)
}

pub fn set(object: &JsValue, field: &str, value: &JsValue) -> Result<(), JsValue> {
    js_sys::Reflect::set(object, &field.into(), value).map(|_| ())
}

pub fn internal(message: &str) -> JsValue {
    write(&json!({ "code": "internal", "message": message })).unwrap_or_else(|_| message.into())
}

/// The message of a thrown value.
pub fn message(thrown: &JsValue) -> String {
    let text = |field: &str| js_sys::Reflect::get(thrown, &field.into()).ok().and_then(|value| value.as_string());
    text("message").or_else(|| thrown.as_string()).unwrap_or_else(|| format!("{thrown:?}"))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
