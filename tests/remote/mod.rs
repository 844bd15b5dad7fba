//! Stores on other machines, held against the real servers.

mod engine;
mod misbehaviour;
mod objects;
mod redis;
mod sealed;
