//! headstart: an LLM inference engine whose transformer forward pass is WGSL compute shaders run through wgpu, natively
//! and in the browser, with a KV cache that grows on the GPU and prefixes that are never prefilled twice.
//!
//! ```no_run
#![doc = include_str!("../examples/chat.rs")]
//! ```
//!
//! [`Chat`] is all that most programs need: it opens a model, keeps KV in the directory that the `headstart` program uses,
//! holds the conversation and streams answers. Every operation is there for async programs too:
//!
//! ```no_run
#![doc = include_str!("../examples/chat_async.rs")]
//! ```
//!
//! Beneath it a program opens a [`Checkpoint`], loads an [`Engine`], gives it [`Tiers`] if prefixes are to outlive the GPU's
//! memory, and asks [`Answers`] for many answers at once:
//!
//! ```no_run
#![doc = include_str!("../examples/many.rs")]
//! ```
//!
//! All that takes part in this stands on this page; the modules behind it are internal.
//!
//! # Features
//!
//! | feature           | what it adds                                                                                     |
//! |-------------------|--------------------------------------------------------------------------------------------------|
//! | `cli` (default)   | the `headstart` program, and the other two features                                              |
//! | `hub`             | [`find_model`]: models by name, downloaded from the Hugging Face hub                             |
//! | `remote`          | [`CacheOptions::shared`] and [`connect_store`]: prefixes in Redis, S3 or a web server             |
//!
//! # The map
//!
//! | module      | what it is                                                                    | what it never does          |
//! |-------------|-------------------------------------------------------------------------------|-----------------------------|
//! | `error`     | the one error type                                                            |                             |
//! | `gpu`       | device, buffers, pipelines, recordings and their submit, uploads, readback    | know of language models     |
//! | `quant`     | weight formats: unpack on the CPU, repack for the GPU                         | read files                  |
//! | `kv`        | pages, block tables, SHA-256 block chain, prefix index, eviction, explanation | name wgpu, do I/O           |
//! | `store`     | where KV blobs live beyond the GPU: memory, disk, Redis, S3, HTTP             | trust what it reads         |
//! | `text`      | tokenizer, whole-character token stream, stop strings, chat templates         | know of models              |
//! | `sample`    | sampling parameters and the seeded reference sampler                          | touch the GPU               |
//! | `kernels`   | the Rust face of each shader: permutation, bindings, grid, cost               | keep state                  |
//! | `weights`   | byte sources, GGUF and Hugging Face checkpoints                               | load a tensor whole         |
//! | `model`     | configuration, tensor names, upload, one short file an architecture           | match on a weight format    |
//! | `engine`    | answers, requests, scheduler, batch, step, KV memory, KV from and to stores   | name a face, trust a store  |
//! | `hub`       | models by name: kept here, or downloaded from Hugging Face (feature `hub`)     | open a model                |
//! | `chat`      | a conversation for Rust programs: model, cache directory and history          | step an engine              |
//! | `cli`       | the command line (feature `cli`)                                              |                             |
//!
//! Shaders are `shaders/*.wgsl`; `shaders/x.wgsl`, `src/kernels/x.rs` and `tests/reference/x.rs` are one kernel.
//!
//! # The way of a token
//!
//! request ([`Body`]) → chat template → tokenizer ([`Language`]) → [`Request`] → [`Answers`], which alone drive the
//! steps → sequence → prefix match (pages that already hold the start) → restoring (what stores have of the rest, while
//! others go on) → scheduler (which tokens of which sequences) → batch (tokens, positions, slots, block tables in one step
//! buffer) → the model records kernels → one submit → sampling on the GPU → 4 bytes a sequence come back → collect (what
//! was written is published, and queued to be saved) → token stream → text.
//!
//! Inside the engine the runner owns the device, the model and the pages, and runs steps; reuse owns what is known of pages
//! and tiers. A sequence is waiting, restoring, prefilling or decoding; no step waits for a store while one can compute.
//!
//! # Invariants
//!
//! - Imports run one way: `error` → {`gpu`, `quant`, `kv`, `store`, `text`, `sample`} → {`kernels`, `weights`} → {`hub`, `model`} → `engine` →
//!   `chat` → `cli`. `tests/tidy.rs` holds the table.
//! - GPU work is data (`gpu::Recording`); a steady step is one host write, one submit and no new bind group.
//! - Cold ≡ warm: a prompt row's result depends on nothing but the tokens before it, so pages are shared bit for bit.
//! - One loop: `engine::answers` alone steps an engine, and no answer ends without a word.
//! - Sizes read from outside are bounded before anything is allocated.

#![warn(missing_docs, unreachable_pub)]

// Internal: this repository's tests, web face and binary reach into the modules, and nobody is promised that they stay as
// they are. Most are hidden from rustdoc alone: `missing_docs` passes over what is hidden from it, and what is re-exported
// below shall be documented.
#[cfg_attr(doc, doc(hidden))]
pub mod error;

#[cfg_attr(doc, doc(hidden))]
pub mod gpu;
#[cfg_attr(doc, doc(hidden))]
pub mod kv;
#[cfg_attr(doc, doc(hidden))]
pub mod quant;
#[cfg_attr(doc, doc(hidden))]
pub mod sample;
#[cfg_attr(doc, doc(hidden))]
pub mod store;
#[cfg_attr(doc, doc(hidden))]
pub mod text;

#[doc(hidden)]
pub mod kernels;
#[cfg_attr(doc, doc(hidden))]
pub mod weights;

#[cfg_attr(doc, doc(hidden))]
pub mod model;

#[cfg_attr(doc, doc(hidden))]
pub mod engine;

#[cfg(not(target_arch = "wasm32"))]
#[cfg_attr(doc, doc(hidden))]
pub mod chat;

#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub mod hub;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

// The face: a conversation,
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub use chat::SharedStore;
#[cfg(not(target_arch = "wasm32"))]
pub use chat::{CacheOptions, Chat, ChatBuilder, Flow, Piece};
// a model by its name,
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub use hub::{Download, find_model};
// or what it is made of: a checkpoint,
pub use gpu::{AdapterInfo, AdapterKind, Instance, Numerics, Preset};
pub use model::{Config, LayerSpec, SamplingDefaults};
pub use quant::Format;
pub use weights::{ByteSource, Checkpoint, Files, MemorySource, ReadFuture};
#[cfg(not(target_arch = "wasm32"))]
pub use weights::{FileSource, digest::Remembered};
// an engine on a device,
pub use engine::{Audited, Counters, Engine, EngineOptions, KvIdentity, PageUse, Progress, Stage, packs::Imported};
pub use error::{Error, Result};
pub use kv::{KvFormat, Namespace, PinId, Pinned, PinsFull};
// what it is asked, from messages to tokens,
pub use engine::language::Language;
pub use engine::openai::{Body, Input};
pub use engine::{MAX_BREAKPOINTS, Request};
pub use sample::{SamplingOverrides, SamplingParams};
pub use text::{Content, Message, PastThinking, Prompt, StopStrings, Tokenizer};
// what it answers,
pub use engine::answers::{Answer, AnswerId, Answers, MAX_LOSSES, Reload, Reloading, Timings, Update, What, unheard};
pub use engine::{FinishReason, Usage};
// where KV came from, and why not all of it,
pub use engine::explain::{Conversation, Explanation, explain};
pub use kv::{Change, Choice, Divergence, Miss, Owner, Reason, Report, Sources, Tier};
// and where it is kept beyond the GPU.
#[cfg(not(target_arch = "wasm32"))]
pub use store::{Background, BackgroundConfig, FilesystemConfig, FilesystemStore, Seal, key_file, secret_file};
pub use store::{
    BoxFuture, BreakerConfig, Clock, Manifest, MemoryStore, Noted, Pack, PackDifference, PackError, PackHeader,
    PackKey, PackLimits, PackSigner, PackStore, Producer, Record, Reject, Store, StoreAnswer, StoreError, StoreKey,
    StoreUsage, TierStats, Tiers, TiersConfig, Written, system_clock,
};
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub use store::{Guard, RemoteConfig, connect as connect_store};

/// The examples of the front page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
