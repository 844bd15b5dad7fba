mod ahead;
mod answers;
mod architectures;
mod cache;
mod cascade;
mod chat;
mod chat_command;
mod chat_file;
#[cfg(target_os = "linux")]
mod chat_room;
mod checkpoints;
mod choice;
mod cli;
mod compiling;
mod config;
mod counters;
mod engine;
mod exactness;
mod explain;
mod formats;
mod fuzz_parsers;
#[cfg(unix)]
mod given;
mod halves;
#[cfg(target_os = "linux")]
mod hostile;
mod hub;
mod hub_kept;
#[path = "support/hub_server.rs"]
mod hub_server;
mod inputs;
mod int8;
#[cfg(target_os = "linux")]
mod interrupt;
mod kernels;
mod kv;
mod language;
mod library;
mod load;
mod openai;
mod oracle;
mod parity;
mod persist;
mod prefix;
mod profile;
mod q8;
mod quant;
#[cfg(unix)]
mod readme;
mod reference;
#[cfg(unix)]
mod remote;
mod resume;
mod reuse;
mod rope;
mod sample;
mod setup;
mod shown;
mod store;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
mod text;
mod tidy;
mod weights;
