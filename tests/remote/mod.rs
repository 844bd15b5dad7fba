//! Stores on other machines, held against the real servers.

mod engine;
mod objects;
mod redis;
mod sealed;
