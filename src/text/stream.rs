//! Text from tokens as they arrive, in whole characters.
//!
//! The pieces of a stream, including `finish`, joined are `Tokenizer::decode(ids, true)`. If a token ends inside a character,
//! up to three bytes wait until the next token completes the character or proves it invalid (then U+FFFD replaces it, as in
//! `String::from_utf8_lossy`). Cost: O(bytes of the token) for each push.

use super::Tokenizer;

#[derive(Clone, Debug)]
pub struct TokenStream {
    tokenizer: Tokenizer,
    pending: Vec<u8>,
    /// Leading spaces still to be dropped (see `pieces::Pieces::leading`).
    leading: usize,
}

impl TokenStream {
    /// A stream whose text stands alone, as `decode` of its ids.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), pending: Vec::new(), leading: tokenizer.pieces().leading }
    }

    /// A stream that continues other text: the space that a SentencePiece model puts before its first word is kept.
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

    /// What remains when no token follows: U+FFFD for an incomplete character.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// Length of an incomplete character at the end that later bytes could complete.
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
