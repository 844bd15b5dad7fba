//! Text and tokens: tokenizer, the stream back to text, stop strings and chat templates.
//!
//! Invariants: exactly the given text is tokenised (special tokens in it are recognised, none is added, nothing is trimmed).
//! Ids agree on every target, since one regex engine runs natively and in the browser. A stream never emits part of a
//! character, and its pieces joined are `Tokenizer::decode` of the same ids. Nothing here knows a GPU, a file or a weight
//! format: a GGUF reader passes in a `GgufVocab`.

mod apart;
mod brief;
mod budget;
mod checks;
mod cuts;
mod encoder;
#[doc(hidden)]
mod gguf;
mod message;
mod normalize;
mod pattern;
mod pieces;
mod pre;
mod prompt;
mod python;
mod sentencepiece;
mod steps;
mod stop;
#[doc(hidden)]
mod stream;
#[doc(hidden)]
mod template;
mod thinking;
mod tokenizer;
mod unseen;

pub(crate) use apart::Marked;
pub use gguf::GgufVocab;
pub use message::{Content, Message};
pub use prompt::Prompt;
pub use stop::{Cut, StopStrings};
pub use stream::TokenStream;
pub use template::{ChatTemplate, Inputs, Specials, parse_time};
pub use thinking::PastThinking;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use thinking::THINKING;
pub(crate) use thinking::thinking;
pub use tokenizer::Tokenizer;
