//! What a running engine reports of a prompt that it reused in part.

use std::cmp::Reverse;

use crate::engine::Request;
use crate::kv::{Admission, Cache, Miss, Namespace, PAGE, Reason, Report};

/// Known tokens that are kept beyond the length of the prompt, so that what comes in between does not hide what is the same.
const BEYOND: usize = 1024;

/// The report of an admission, with what is known to follow where the prompt diverges if `request` asks for it. To be
/// called before the prompt is published. O(tokens of the prompt), only on a divergence.
pub(in crate::engine) fn report(cache: &Cache, admission: &Admission, request: &Request) -> Report {
    let mut report = admission.report.clone();
    if let Some(at) = report.first_divergent.filter(|_| request.explain) {
        let limit = request.tokens.len() - at + BEYOND;
        report.known = cache.known_continuation(admission.table.namespace(), &request.tokens, at, limit);
    }
    report
}

/// Completes the account of a prompt by what is stored, where the pages had never seen the tokens: a sequence that parts
/// from the prompt there, or the same tokens under another namespace. What is stored under another salt tells nothing: one
/// tenant learns nothing of another. O(tokens stored).
#[doc(hidden)]
pub fn recall<'a>(
    report: &mut Report,
    namespace: &Namespace,
    prompt: &[u32],
    stored: impl IntoIterator<Item = (&'a Namespace, &'a [u32])>,
) {
    let Some(index) = report.unexplained() else { return };
    let Miss { from, tokens, .. } = report.misses[index];
    let same = |other: &[u32]| prompt.iter().zip(other).take_while(|(a, b)| a == b).count();
    let visible = stored.into_iter().filter(|(theirs, _)| theirs.tenant() == namespace.tenant());
    let found = visible.map(|(theirs, tokens)| (theirs, tokens, same(tokens)));
    let (own, others): (Vec<_>, Vec<_>) = found.partition(|(theirs, ..)| *theirs == namespace);
    let parted = own.into_iter().filter(|(_, tokens, same)| *same < tokens.len().min(prompt.len()));
    let nearest = parted.max_by_key(|found| found.2).filter(|(_, _, at)| (from..from + PAGE).contains(at));
    if let Some((_, known, at)) = nearest {
        report.misses[index].reason = Reason::Diverged;
        report.first_divergent = Some(at);
        report.known = known[at..].iter().copied().take(prompt.len() - at + BEYOND).collect();
        return;
    }
    // Of those that know as much, the one that is nearest.
    let nearest =
        others.into_iter().max_by_key(|(theirs, _, same)| (*same, Reverse(namespace.differences(theirs).count())));
    let Some((theirs, _, same)) = nearest.filter(|(_, _, same)| from < PAGE && *same >= PAGE) else { return };
    let Some(field) = namespace.difference(theirs) else { return };
    let reason = Reason::NamespaceChanged { field };
    let known = (same - from).min(tokens);
    let cold = Miss { reason: Reason::Cold, from: from + known, tokens: tokens - known };
    report.misses.splice(index..=index, [Miss { reason, from, tokens: known }, cold]);
    report.misses.retain(|miss| miss.tokens > 0);
}
