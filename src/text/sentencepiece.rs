//! SentencePiece's BPE: neighbouring pieces are joined by the score of the token that they form.
//!
//! A text begins as its characters. Of all neighbours that form a token, the pair whose token scores best is joined first; of
//! equal scores, the leftmost. A list of merges cannot express this, since each of its entries has its own rank, while
//! vocabularies give hundreds of tokens one score. A piece that is not a token in the end becomes its bytes, else the unknown
//! token. Cost: O(n log n) for n characters, and one look-up for each candidate pair.

use std::collections::{BinaryHeap, HashMap};
use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BpeTrainer, Vocab};
use tokenizers::{Model, Result, Token};

pub(super) struct SentencePiece {
    /// By id.
    tokens: Vec<String>,
    ids: Vocab,
    /// The score of each token; `None` for one that text never becomes by joining.
    scores: Vec<Option<f32>>,
    /// The token of each byte, for text that belongs to no token.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// Bytes of the longest token.
    longest: usize,
}

/// A piece of the text in a linked list. It becomes empty once its left neighbour has absorbed it.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that form a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when the pair was found. If a side has changed since, the pair is out of date.
    bytes: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl SentencePiece {
    /// `scores` has the score of each token, `None` for one that text never becomes by joining.
    pub(crate) fn new(tokens: Vec<String>, scores: Vec<Option<f32>>, unknown: Option<u32>) -> Self {
        let named = tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
        let ids: Vocab = named.map(|(id, token)| (token.clone(), id as u32)).collect();
        let bytes = (0..=255u8).map(|byte| ids.get(&format!("<{byte:#04X}>")).copied()).collect();
        let longest = tokens.iter().map(String::len).max().unwrap_or(0);
        // `+ 0.0` makes the sign of a zero the same, so that equal scores tie.
        let scores = scores.into_iter().map(|score| Some(score? + 0.0)).collect();
        Self { tokens, ids, scores, bytes, unknown, longest }
    }

    fn find(&self, piece: &str) -> Option<(u32, f32)> {
        let id = *self.ids.get(piece)?;
        Some((id, self.scores[id as usize]?))
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: Option<usize>, right: Option<usize>) -> Option<Pair> {
        let (left, right) = (left?, right?);
        let piece = symbols[left].start..symbols[right].end;
        let bytes = piece.len();
        let (_, score) = (bytes <= self.longest).then(|| self.find(&text[piece]))??;
        Some(Pair { score, left, right, bytes })
    }

    /// The pieces that remain when no pair is left; pieces that were absorbed are empty.
    fn join(&self, text: &str) -> Vec<Symbol> {
        let count = text.chars().count();
        let characters = text.char_indices().enumerate().map(|(index, (start, c))| Symbol {
            start,
            end: start + c.len_utf8(),
            previous: index.checked_sub(1),
            next: (index + 1 < count).then_some(index + 1),
        });
        let mut symbols: Vec<Symbol> = characters.collect();
        let mut pairs: BinaryHeap<Pair> =
            (1..count).filter_map(|right| self.pair(text, &symbols, Some(right - 1), Some(right))).collect();
        while let Some(Pair { left, right, bytes, .. }) = pairs.pop() {
            let length = |symbol: &Symbol| symbol.end - symbol.start;
            let (first, second) = (length(&symbols[left]), length(&symbols[right]));
            if first == 0 || second == 0 || first + second != bytes {
                continue;
            }
            let (end, next) = (symbols[right].end, symbols[right].next);
            symbols[right].start = end;
            symbols[left].end = end;
            symbols[left].next = next;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
            }
            let previous = symbols[left].previous;
            pairs.extend(self.pair(text, &symbols, previous, Some(left)));
            pairs.extend(self.pair(text, &symbols, Some(left), next));
        }
        symbols
    }
}

impl Model for SentencePiece {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        let mut tokens: Vec<Token> = Vec::new();
        let token = |id: u32, offsets| Token::new(id, self.tokens[id as usize].clone(), offsets);
        for Symbol { start, end, .. } in self.join(text) {
            let piece = &text[start..end];
            if piece.is_empty() {
                continue;
            }
            if let Some((id, _)) = self.find(piece) {
                tokens.push(token(id, (start, end)));
                continue;
            }
            let bytes: Option<Vec<u32>> = piece.bytes().map(|byte| self.bytes[byte as usize]).collect();
            match (bytes, self.unknown) {
                (Some(ids), _) => {
                    tokens.extend(ids.into_iter().enumerate().map(|(at, id)| token(id, (start + at, start + at + 1))));
                }
                // Consecutive unknown characters become one token.
                (None, Some(id)) => match tokens.last_mut().filter(|last| last.id == id) {
                    Some(last) => last.offsets.1 = end,
                    None => tokens.push(token(id, (start, end))),
                },
                (None, None) => {
                    return Err(format!(
                        "the vocabulary has no token for {piece:?}, none for its bytes, and no unknown token"
                    )
                    .into());
                }
            }
        }
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).filter(|token| !token.is_empty()).cloned()
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.ids.iter().map(|(token, id)| (token.clone(), *id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.ids.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("the vocabulary of a GGUF file cannot be written".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        BpeTrainer::default().into()
    }
}
