//! Checkpoints: where a model's bytes are, and what its files say about them.
//!
//! A [`Checkpoint`] is a table of tensors over [`ByteSource`]s, plus metadata. Opening one reads headers only. Tensors
//! are read later and by rows, so a model never has to fit in memory beside its copy on the GPU. GGUF files, whole or
//! in shards, and Hugging Face directories give the same type.
//!
//! Files are not trusted: every count and size is checked against the length of its file before anything is allocated
//! for it, offsets are checked before anything is read, and each refusal names the file, the field and what to do.
//! `model::config` interprets the metadata.

mod checkpoint;
pub mod digest;
#[doc(hidden)]
mod fields;
#[doc(hidden)]
mod gguf;
pub mod hub;
mod hugging_face;
mod packed;
mod reader;
mod safetensors;
mod shards;
mod source;

pub use checkpoint::{Checkpoint, Kind, Metadata, TensorInfo};
pub use fields::{Field, Fields};
pub use gguf::GgufMetadata;
pub(crate) use hugging_face::JsonFile;
pub use hugging_face::{Files, HuggingFaceMetadata};
pub(crate) use packed::packed;
#[cfg(feature = "hub")]
pub(crate) use shards::{gguf_files, gguf_paths};
#[cfg(not(target_arch = "wasm32"))]
pub use source::FileSource;
pub use source::{ByteSource, Identity, MemorySource, ReadFuture};
