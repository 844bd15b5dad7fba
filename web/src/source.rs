//! A model file that JavaScript reads.

use std::{cell::RefCell, rc::Rc};

use headstart::{
    error::Error,
    weights::{ByteSource, ReadFuture},
};
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::js;

/// Whether a text is 64 hex digits.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[wasm_bindgen]
extern "C" {
    #[derive(Clone)]
    pub type ModelFile;

    #[wasm_bindgen(method, getter)]
    fn name(this: &ModelFile) -> String;

    #[wasm_bindgen(method, getter)]
    fn size(this: &ModelFile) -> f64;

    #[wasm_bindgen(method, getter)]
    fn sha256(this: &ModelFile) -> Option<String>;

    #[wasm_bindgen(method, catch)]
    fn read(this: &ModelFile, offset: f64, length: f64) -> Result<Promise, JsValue>;
}

/// The error that a read threw. It is thrown again unchanged.
pub type Thrown = Rc<RefCell<Option<JsValue>>>;

pub struct JsSource {
    file: ModelFile,
    name: String,
    len: u64,
    sha256: Option<String>,
    thrown: Thrown,
}

impl JsSource {
    pub fn new(file: ModelFile, thrown: Thrown) -> Self {
        let sha256 = file.sha256().filter(|digest| is_digest(digest));
        Self { name: file.name(), len: file.size() as u64, sha256, file, thrown }
    }

    fn fail(&self, offset: u64, problem: String) -> Error {
        let (file, field) = (self.name.clone(), format!("bytes from {offset}"));
        Error::Format { file, field, problem, fix: "give the file again" }
    }
}

impl ByteSource for JsSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn sha256(&self) -> Option<String> {
        self.sha256.clone()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.len);
            if end.is_none() {
                return Err(self.fail(offset, format!("{} are needed, the file has {}", out.len(), self.len)));
            }
            let read = async { JsFuture::from(self.file.read(offset as f64, out.len() as f64)?).await };
            let bytes = read.await.map_err(|thrown| {
                let problem = js::message(&thrown);
                self.thrown.borrow_mut().get_or_insert(thrown);
                self.fail(offset, problem)
            })?;
            let bytes: Uint8Array =
                bytes.dyn_into().map_err(|_| self.fail(offset, "the read returned no Uint8Array".into()))?;
            if bytes.length() as usize != out.len() {
                return Err(self.fail(offset, format!("{} bytes were read, not {}", bytes.length(), out.len())));
            }
            bytes.copy_to(out);
            Ok(())
        })
    }
}
