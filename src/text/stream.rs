//! Text from tokens as they come: whole characters only.
//!
//! The pieces of a stream, `finish` included, put together are `Tokenizer::decode(ids, true)`. A token may end inside a
//! character; its bytes wait, at most three of them, until the next token completes it or proves it broken (then
//! U+FFFD stands for it, as in `String::from_utf8_lossy`). Cost: O(bytes of the token) a push.

use super::Tokenizer;

#[derive(Clone, Debug)]
pub struct TokenStream {
    tokenizer: Tokenizer,
    pending: Vec<u8>,
    /// Spaces still to be dropped from the front of the text (see `pieces::Pieces::leading`).
    leading: usize,
}

impl TokenStream {
    /// A stream whose text stands for itself, as `decode` of its ids.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), pending: Vec::new(), leading: tokenizer.pieces().leading }
    }

    /// A stream that goes on after other text: a space that a SentencePiece model puts before its first word stays.
    pub fn continuing(tokenizer: &Tokenizer) -> Self {
        Self { leading: 0, ..Self::new(tokenizer) }
    }

    /// The text that `id` completes, if any. Special tokens and ids outside the vocabulary give nothing.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let pieces = self.tokenizer.pieces();
        if pieces.is_special(id) {
            return None;
        }
        let mut bytes = pieces.get(id)?;
        while self.leading > 0
            && let Some((&first, rest)) = bytes.split_first()
        {
            if first != b' ' {
                self.leading = 0;
                break;
            }
            (bytes, self.leading) = (rest, self.leading - 1);
        }
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() - unfinished(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..whole]).into_owned();
        self.pending.drain(..whole);
        (!text.is_empty()).then_some(text)
    }

    /// What is left when no token follows: U+FFFD for a character that never ended.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// How many bytes at the end are the start of a character that later bytes could complete.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (1..=tail.len())
        .rev()
        .find(|&n| {
            let end = &tail[tail.len() - n..];
            std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}
