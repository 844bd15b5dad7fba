//! Stores on other machines, held against the real servers.

mod redis;
