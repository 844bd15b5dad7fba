//! Stores on other machines, tested with the real servers.

mod engine;
mod misbehaviour;
mod objects;
mod redis;
mod sealed;
mod secrets;
mod urls;
