//! A KV store in JavaScript: OPFS, IndexedDB or, in Node, a directory. An error that it throws counts as a miss, as in any store.
//!
//! Values are authenticated with a key that JavaScript holds and never exports. JavaScript computes the MAC of a value (see
//! [`Slot`]) when the value is written and again when it is read. A value whose MAC does not match is returned as [`FORGED`].

use std::time::Duration;

use headstart::store::{BoxFuture, Bytes, FORGED, Slot, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};
use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::js;

/// Larger than any block of KV.
const MAX_BYTES: u32 = 256 << 20;

#[wasm_bindgen]
extern "C" {
    pub type KvStore;

    #[wasm_bindgen(method, getter)]
    fn name(this: &KvStore) -> String;

    #[wasm_bindgen(method, catch)]
    fn sign(this: &KvStore, message: Uint8Array) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn get(this: &KvStore, key: &str, most: Option<f64>) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn put(this: &KvStore, key: &str, bytes: Uint8Array, ttl_ms: Option<f64>) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn contains(this: &KvStore, keys: Array) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn remove(this: &KvStore, key: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn clear(this: &KvStore) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn touch(this: &KvStore, keys: Array) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn flush(this: &KvStore) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn usage(this: &KvStore) -> Result<JsValue, JsValue>;
}

pub struct JsStore {
    store: KvStore,
    name: &'static str,
}

impl JsStore {
    pub fn new(store: KvStore) -> Self {
        let name = match store.name().as_str() {
            "indexeddb" => "indexeddb",
            // The native store in a directory has the same name.
            "directory" => "disk",
            _ => "opfs",
        };
        Self { store, name }
    }

    async fn settle(&self, called: Result<Promise, JsValue>) -> Result<JsValue, StoreError> {
        let settled = match called {
            Ok(promise) => JsFuture::from(promise).await,
            Err(thrown) => Err(thrown),
        };
        settled.map_err(|thrown| StoreError::Backend { store: self.name, problem: js::message(&thrown) })
    }
}

impl JsStore {
    /// The bytes of a value, or `None` if there is no value.
    fn bytes(&self, value: JsValue) -> Result<Option<Bytes>, StoreError> {
        let Ok(bytes) = value.dyn_into::<Uint8Array>() else { return Ok(None) };
        if bytes.length() > MAX_BYTES {
            let problem = format!("a value of {} bytes", bytes.length());
            return Err(StoreError::Backend { store: self.name, problem });
        }
        Ok(Some(bytes.to_vec().into()))
    }

    /// Starts to compute the MAC of a value.
    fn sign(&self, slot: &Slot) -> Result<Promise, JsValue> {
        self.store.sign(Uint8Array::from(&slot.message[..]))
    }

    async fn signed(&self, promise: Result<Promise, JsValue>) -> Result<Option<StoreKey>, StoreError> {
        let mac = self.bytes(self.settle(promise).await?)?;
        Ok(mac.and_then(|mac| StoreKey::try_from(&mac[..]).ok()))
    }

    /// The values, with [`FORGED`] in place of each one that was not signed with the key.
    async fn vouched(&self, keys: &[StoreKey], values: Vec<Option<Bytes>>) -> Result<Vec<Option<Bytes>>, StoreError> {
        let begun: Vec<_> = keys
            .iter()
            .zip(values)
            .map(|(key, value)| {
                let slot = value.as_ref().and_then(|value| Slot::find(key, value));
                let mac = slot.as_ref().map(|slot| self.sign(slot));
                (value, slot.zip(mac))
            })
            .collect();
        let mut vouched = Vec::with_capacity(begun.len());
        for (value, signing) in begun {
            // A value without a place for a MAC is neither a block nor a manifest, so every reader rejects it.
            let is_ours = match (&value, signing) {
                (Some(value), Some((slot, mac))) => {
                    self.signed(mac).await.map(|mac| mac.is_some_and(|mac| slot.read(value) == Some(mac)))
                }
                _ => Ok(true),
            };
            vouched.push(is_ours.map(|is_ours| if is_ours { value } else { Some(Bytes::from_static(FORGED)) }));
        }
        // Not before all have settled: JavaScript reports a rejection that nobody awaits.
        vouched.into_iter().collect()
    }
}

fn names(keys: &[StoreKey]) -> Array {
    keys.iter().map(|key| JsValue::from(js::hex(key))).collect()
}

impl Store for JsStore {
    fn name(&self) -> &'static str {
        self.name
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move {
            let value = self.bytes(self.settle(self.store.get(&js::hex(key), None)).await?)?;
            Ok(self.vouched(std::slice::from_ref(key), vec![value]).await?.pop().flatten())
        })
    }

    /// Starts all reads before it waits for the first one.
    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let most = (most < usize::MAX).then_some(most as f64);
            let asked: Vec<_> = keys.iter().map(|key| self.store.get(&js::hex(key), most)).collect();
            let mut values = Vec::with_capacity(asked.len());
            for promise in asked {
                values.push(self.settle(promise).await);
            }
            let values = values.into_iter().map(|value| self.bytes(value?)).collect::<Result<_, _>>()?;
            self.vouched(keys, values).await
        })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let ttl_ms = ttl.map(|ttl| ttl.as_secs_f64() * 1e3);
            let value = Uint8Array::from(&bytes[..]);
            if let Some(slot) = Slot::find(key, bytes)
                && let Some(mac) = self.signed(self.sign(&slot)).await?
            {
                value.set(&Uint8Array::from(&slot.text(&mac)[..]), slot.place().start as u32);
            }
            self.settle(self.store.put(&js::hex(key), value, ttl_ms)).await.map(|_| ())
        })
    }

    fn flush(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.settle(self.store.flush()).await.map(|_| ()) })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move {
            let present = self.settle(self.store.contains(names(keys))).await?;
            Ok(Array::from(&present).iter().map(|present| present.is_truthy()).collect())
        })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { Ok(self.settle(self.store.remove(&js::hex(key))).await?.is_truthy()) })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.settle(self.store.clear()).await.map(|_| ()) })
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // This is a hint, so a failure does no harm.
            let _ = self.store.touch(names(keys));
        })
    }

    fn usage(&self) -> StoreUsage {
        let Ok(found) = self.store.usage() else { return StoreUsage::default() };
        let count = |field: &str| {
            js_sys::Reflect::get(&found, &field.into()).ok().and_then(|value| value.as_f64()).unwrap_or(0.0) as u64
        };
        let (entries, bytes, evicted) = (count("entries"), count("bytes"), count("evicted"));
        StoreUsage { entries, bytes, evicted, failures: count("failures"), ..StoreUsage::default() }
    }
}
