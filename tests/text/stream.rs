//! Streams emit whole characters, and their pieces joined are `decode`.

use headstart::text::{TokenStream, Tokenizer};
use proptest::prelude::*;

use super::json::llama_like;
use super::model::tokenizer;

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TokenStream::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
    pieces.extend(stream.finish());
    assert_eq!(stream.finish(), None);
    pieces
}

#[test]
fn a_character_split_over_tokens_is_emitted_whole_and_as_early_as_possible() {
    let text = "👩‍👩‍👧‍👦 改变🎉";
    let ids = tokenizer().encode(text).unwrap();
    assert!(ids.len() > text.chars().count(), "the test needs characters made of several tokens");
    let mut stream = TokenStream::new(tokenizer());
    let mut so_far = String::new();
    for (index, &id) in ids.iter().enumerate() {
        let piece = stream.push(id);
        assert_ne!(piece.as_deref(), Some(""));
        so_far.extend(piece);
        let known: Vec<u8> =
            ids[..=index].iter().flat_map(|&id| tokenizer().token_bytes(id).unwrap()).copied().collect();
        let whole = String::from_utf8_lossy(&known).trim_end_matches('\u{fffd}').to_owned();
        assert_eq!(so_far, whole, "after token {index}");
    }
    assert_eq!((so_far.as_str(), stream.finish()), (text, None));
}

#[test]
fn invalid_bytes_become_replacement_characters_once_nothing_can_complete_them() {
    let byte = |byte: u8| {
        (0..tokenizer().vocab_size() as u32).find(|&id| tokenizer().token_bytes(id) == Some(&[byte])).unwrap()
    };
    let mut stream = TokenStream::new(tokenizer());
    assert_eq!(stream.push(byte(0xf0)), None);
    assert_eq!(stream.push(byte(0x9f)), None);
    assert_eq!(stream.push(byte(b'a')).as_deref(), Some("\u{fffd}a"));
    assert_eq!(stream.push(byte(0xbf)).as_deref(), Some("\u{fffd}"));
    assert_eq!(stream.push(byte(0xe4)), None);
    assert_eq!(stream.push(2), None, "a special token is skipped");
    assert_eq!(stream.push(byte(0xbd)), None);
    assert_eq!(stream.finish().as_deref(), Some("\u{fffd}"));
}

#[test]
fn a_continuing_stream_keeps_the_space_of_the_first_word() {
    let t = llama_like();
    let ids = t.encode("Hello world").unwrap();
    assert_eq!(pieces(&t, &ids).concat(), "Hello world");
    let mut stream = TokenStream::continuing(&t);
    let text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    assert_eq!(text, " Hello world");
}

proptest! {
    #[test]
    fn pieces_put_together_are_the_decoded_text(
        ids in prop::collection::vec(0u32..49_300, 0..60),
        bytes in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        text in "[a-z 中文🎉👩\u{200d}é\u{fffd}]{0,40}",
    ) {
        let single: Vec<u32> = (0..tokenizer().vocab_size() as u32)
            .filter(|&id| tokenizer().token_bytes(id).is_some_and(|bytes| bytes.len() == 1))
            .collect();
        let bytes: Vec<u32> = bytes.iter().map(|index| *index.get(&single)).collect();
        for ids in [ids, bytes, tokenizer().encode(&text).unwrap()] {
            let pieces = pieces(tokenizer(), &ids);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), tokenizer().decode(&ids, true));
        }
    }

    #[test]
    fn the_same_holds_for_byte_fallback(ids in prop::collection::vec(0u32..400, 0..60)) {
        let t = llama_like();
        prop_assert_eq!(pieces(&t, &ids).concat(), t.decode(&ids, true));
    }
}
