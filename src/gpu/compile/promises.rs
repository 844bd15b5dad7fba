//! Lets the browser compile all kernels at once with `createComputePipelineAsync`, which does not delay uploads as
//! `createComputePipeline` does.
//!
//! wgpu only knows the latter (github.com/gfx-rs/wgpu/issues/3794). So its call is answered in the device's place, twice:
//! at first with nothing, to learn the descriptor, and then with the pipeline that the browser has made of that.

use std::{cell::RefCell, collections::VecDeque, pin::Pin, rc::Rc, sync::Arc};

use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::{Compiler, Future, Kernel, Parts, Pipeline, Result, pop, refused};

type Compiled = (Arc<Kernel>, Result<Pipeline>);

pub(super) struct Pending(VecDeque<Pin<Box<dyn Future<Output = Compiled>>>>);

#[wasm_bindgen]
extern "C" {
    /// A `GPUDevice`.
    #[wasm_bindgen(extends = Object)]
    type Device;

    #[wasm_bindgen(method, catch, js_name = createComputePipelineAsync)]
    fn create_compute_pipeline_async(this: &Device, descriptor: &JsValue) -> Result<Promise, JsValue>;
}

impl Pending {
    pub(super) fn start(compiler: Compiler, todo: Vec<Arc<Kernel>>) -> Self {
        let begin = |kernel: Arc<Kernel>| -> Pin<Box<dyn Future<Output = Compiled>>> {
            let begun = begin(&compiler, &kernel);
            Box::pin(async move {
                let pipeline = match begun {
                    Ok(pipeline) => pipeline.await,
                    Err(error) => Err(error),
                };
                (kernel, pipeline)
            })
        };
        Self(todo.into_iter().map(begin).collect())
    }

    /// Waits for the next kernel that is compiled or refused. `None` if that was done with all.
    pub(super) async fn next(&mut self) -> Option<Compiled> {
        Some(self.0.pop_front()?.await)
    }
}

/// Begins to compile `kernel`, whether or not the result is polled.
fn begin(compiler: &Compiler, kernel: &Arc<Kernel>) -> Result<impl Future<Output = Result<Pipeline>> + use<>> {
    let source = compiler.source(kernel)?;
    let (device, kernel) = (compiler.device.clone(), Arc::clone(kernel));
    let scopes = compiler.scopes();
    let parts = compiler.parts(&kernel, source);
    let (_, descriptor) = answered(&device, &parts, JsValue::UNDEFINED);
    let error = pop(scopes);
    let making = raw(&device).create_compute_pipeline_async(&descriptor);
    // It listens from now on, so that no failure counts as unhandled.
    let making = JsFuture::from(making.unwrap_or_else(|thrown| Promise::reject(&thrown)));
    Ok(async move {
        let made = making.await;
        // An error in the module says more than that of a pipeline with an invalid module.
        if let Some(error) = error.await {
            return Err(refused(&kernel, error.to_string()));
        }
        let made = made.map_err(|thrown| refused(&kernel, message(&thrown)))?;
        let (raw, _) = answered(&device, &parts, made);
        Ok(Pipeline { raw, layout: parts.layout })
    })
}

fn raw(device: &wgpu::Device) -> &Device {
    let raw: &JsValue = device.as_webgpu().expect("browsers have no other backend");
    raw.unchecked_ref()
}

/// wgpu's pipeline around `made`, with which the device's `createComputePipeline` is answered, and the descriptor that it
/// was called with.
fn answered(device: &wgpu::Device, parts: &Parts, made: JsValue) -> (wgpu::ComputePipeline, JsValue) {
    let (raw, name) = (raw(device), JsValue::from("createComputePipeline"));
    let asked = Rc::new(RefCell::new(JsValue::UNDEFINED));
    let seen = Rc::clone(&asked);
    let answer: Closure<dyn FnMut(JsValue) -> JsValue> = Closure::new(move |descriptor| {
        seen.replace(descriptor);
        made.clone()
    });
    let own = Object::has_own(raw, &name).then(|| Reflect::get(raw, &name));
    // None of these fails with an ordinary object.
    let _ = Reflect::set(raw, &name, answer.as_ref());
    let pipeline = device.create_compute_pipeline(&parts.descriptor());
    let _ = match own {
        Some(Ok(own)) => Reflect::set(raw, &name, &own),
        _ => Reflect::delete_property(raw, &name),
    };
    (pipeline, asked.take())
}

/// The message of a thrown value.
fn message(thrown: &JsValue) -> String {
    let text = Reflect::get(thrown, &"message".into()).ok().and_then(|text| text.as_string());
    text.unwrap_or_else(|| format!("{thrown:?}"))
}
