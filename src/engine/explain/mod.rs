//! Explains to people and programs why a prompt is not reused as a whole.
//!
//! `conversation` knows the author of each token. `live` completes the report of a running request. `explain` compares two prompts as
//! a cache that holds nothing else would see them. `requests` compares what their authors wrote: `turns`, `pieces` and `layout` find
//! what both have, `differences` names the rest, and `mend` puts both in order.

mod align;
mod conversation;
mod differences;
mod layout;
mod live;
mod mend;
mod pieces;
mod requests;
mod sentences;
mod spans;
mod turns;
mod whole;

pub use conversation::Conversation;
pub use differences::Difference;
#[doc(hidden)]
pub use live::recall;
pub(super) use live::report;
pub use mend::Mending;
pub use requests::{Comparison, Side};

use crate::kv::{AdmitOptions, Cache, CacheConfig, Divergence, Namespace, PAGE, Producer, Report, compare};
use crate::text::Tokenizer;

use conversation::text;

/// What a cache reuses of one prompt after another, and why no more.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Leading tokens that could be shared.
    pub shared: usize,
    /// The cache's report of the second prompt, where it knows only the first.
    pub report: Report,
    /// Where the second diverges from the first; `None` where one is a prefix of the other.
    pub divergence: Option<Divergence>,
}

/// Explains `prompt` for a cache that holds nothing but `known`. Each has its namespace.
pub fn explain(
    known: (&Namespace, &Conversation),
    prompt: (&Namespace, &Conversation),
    tokenizer: &Tokenizer,
) -> Explanation {
    let (old, new) = (&known.1.tokens, &prompt.1.tokens);
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let divergence = Divergence::of_namespaces(known.0, prompt.0, same)
        .or_else(|| compare(known.1.rendered(), prompt.1.rendered(), |tokens| text(tokenizer, tokens)));
    let shared = divergence.as_ref().map_or(same, |divergence| divergence.token);
    Explanation { shared, report: account((known.0, old), (prompt.0, new)), divergence }
}

fn account(known: (&Namespace, &[u32]), prompt: (&Namespace, &[u32])) -> Report {
    const ROOM: &str = "the pages were counted";
    let capacity = known.1.len().div_ceil(PAGE) + prompt.1.len().div_ceil(PAGE) + 1;
    let mut cache = Cache::new(CacheConfig { capacity, ..CacheConfig::default() });
    let mut table = cache.admit(known.0, known.1, &AdmitOptions::default()).expect(ROOM).table;
    cache.append(&mut table, known.1.len()).expect(ROOM);
    cache.publish(&mut table, known.1, Producer::Prefill);
    cache.release(table);
    let options = AdmitOptions { across_salts: true, ..AdmitOptions::default() };
    let admission = cache.admit(prompt.0, prompt.1, &options).expect(ROOM);
    cache.release(admission.table);
    admission.report
}
