//! Text in, text out: tokens, the stream back to text, stop strings and chat templates.
//!
//! Invariants: exactly the text given is tokenised (special tokens in it are recognised, none is added, nothing is
//! trimmed); ids agree on every target, since one regex engine runs natively and in the browser; a stream never emits
//! half a character, and its pieces put together are `Tokenizer::decode` of the same ids. Nothing here knows a GPU, a
//! file or a weight format: `GgufVocab` is what a reader of GGUF hands over.

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
