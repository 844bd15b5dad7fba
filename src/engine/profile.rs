//! Profiles one step by kernel, and measures what it costs the host.

use std::time::Duration;

use super::{
    Engine,
    batch::{Draw, Logits, Rows},
};
use crate::{
    error::{Error, Result},
    gpu::profile::Timed,
    kernels::{Class, PAGE},
    kv::{AdmitOptions, Producer},
};

/// How often a step is encoded to measure how long that takes.
const REHEARSALS: u32 = 100;

/// The profile of a step.
#[doc(hidden)]
#[derive(Debug)]
pub struct Profile {
    /// The repeated runs of the step.
    pub runs: Vec<Timed>,
    /// Bytes a second, counting reads and writes, at which the device copies, by its timestamps; `None` if it has none.
    pub copy_rate: Option<f64>,
    pub dispatches: usize,
    /// Host time to record and encode all dispatches.
    pub host: Duration,
}

impl Engine {
    /// Runs one step of `rows` rows after `position` tokens `runs` times, after some warm-up runs. With `decode` it is
    /// one decoding sequence (`rows` is 1), else part of a prompt.
    #[doc(hidden)]
    pub async fn profile(&mut self, decode: bool, position: usize, rows: usize, runs: usize) -> Result<Profile> {
        let rows = if decode { 1 } else { rows.min(self.chunk()) };
        let tokens = vec![0; position + rows];
        self.make_room(tokens.len().div_ceil(PAGE)).await?;
        let full = |_| Error::Gpu { problem: "the KV cache is full".into() };
        let options = AdmitOptions { max: Some(0), ..Default::default() };
        let namespace = self.namespace("");
        let cache = &mut self.reuse.cache;
        let mut table = cache.admit(&namespace, &tokens, &options).map_err(full)?.table;
        let slots = cache.append(&mut table, tokens.len()).map_err(full)?;
        cache.publish(&mut table, &tokens[..position], Producer::Decode);
        let class = if decode { Class::Decode } else { Class::Prompt };
        let (logits, rows) = (Logits::Last(Draw::GREEDY), &tokens[position..]);
        let group = Rows { slots: &slots[position..], ..Rows::new(class, rows, position, table.pages(), logits) };
        let groups = [group];
        let measured = self.runner.profile(&groups, runs).await;
        let host = self.runner.rehearse(&groups, REHEARSALS);
        self.reuse.cache.cancel(&mut table);
        self.reuse.cache.release(table);
        self.reuse.cache.clear();
        let ((dispatches, host), (runs, copy_rate)) = (host?, measured?);
        Ok(Profile { runs, copy_rate, dispatches, host })
    }
}
