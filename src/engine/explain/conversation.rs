//! A conversation as the model reads it, with the author of each token.

use std::ops::Range;

use crate::error::Result;
use crate::kv::{Divergence, Owner, Rendered, Report, Span, compare};
use crate::text::{ChatTemplate, Inputs, Marked, Tokenizer};

use super::spans::Pieces;

/// A prompt as the model reads it, with the author of each token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The whole prompt, up to where the answer begins.
    pub tokens: Vec<u32>,
    /// The author of each span of them.
    #[doc(hidden)]
    pub spans: Vec<Span>,
}

impl Conversation {
    /// # Errors
    /// [`Error::Template`](crate::error::Error::Template) where the template refuses the messages.
    #[doc(hidden)]
    pub fn new(template: &ChatTemplate, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Self> {
        // One time for all renderings.
        let inputs = Inputs { now: Some(inputs.now.unwrap_or_else(|| template.now())), ..*inputs };
        let marked = Marked::new(template, tokenizer, &inputs);
        let marked_inputs = marked.inputs();
        let pieces = Pieces::find(template, &marked_inputs)?;
        let prompt = marked.prompt(&pieces.text)?;
        let (tokens, offsets) = prompt.encode(tokenizer)?;
        let place = |bytes: Range<usize>| prompt.place(bytes.start)..prompt.place(bytes.end);
        let spans = pieces.found.into_iter().map(|piece| {
            let bytes = place(piece.bytes);
            let first = offsets.partition_point(|token| token.end <= bytes.start);
            let end = offsets.partition_point(|token| token.start < bytes.end);
            let text = prompt.text[place(piece.own)].to_owned();
            Span { owner: piece.owner, tokens: first..end.max(first), text }
        });
        Ok(Self { spans: spans.collect(), tokens })
    }

    /// A text without messages.
    pub fn raw(tokens: Vec<u32>) -> Self {
        let spans = vec![Span { owner: Owner::Prompt, tokens: 0..tokens.len(), text: String::new() }];
        Self { tokens, spans }
    }

    pub(crate) fn rendered(&self) -> Rendered<'_> {
        Rendered { tokens: &self.tokens, spans: &self.spans }
    }

    /// The first token that the template makes of the date, if it makes any.
    pub fn dated(&self) -> Option<usize> {
        let date = self.spans.iter().find(|span| span.owner == Owner::Template { date: true });
        date.map(|span| span.tokens.start)
    }

    /// Where this prompt diverged from what was known when it was admitted; none unless its [`Request`] asked.
    pub fn divergence(&self, report: &Report, tokenizer: &Tokenizer) -> Option<Divergence> {
        let at = report.first_divergent.filter(|_| !report.known.is_empty())?;
        let known = [self.tokens.get(..at)?, &report.known].concat();
        let found = compare(Rendered { tokens: &known, spans: &[] }, self.rendered(), |tokens| text(tokenizer, tokens));
        found.filter(|found| found.token == at)
    }
}

/// The bytes of `tokens`, nothing left out at the beginning as [`Tokenizer::decode`] may.
pub(super) fn text(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().filter_map(|&token| tokenizer.token_bytes(token)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
