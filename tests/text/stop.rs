//! Stop strings, for every way of splitting a text into pieces.

use headstart::text::StopStrings;
use proptest::prelude::*;

fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
    let mut stop = StopStrings::new(stops.iter().copied()).unwrap();
    let (mut text, mut which) = (String::new(), None);
    for piece in pieces {
        let cut = stop.push(piece);
        text.push_str(&cut.text);
        which = which.or(cut.stop);
    }
    text.push_str(&stop.finish());
    (text, which)
}

#[test]
fn a_stop_string_across_pieces_stops_and_is_reported() {
    assert_eq!(run(&["\nUser:", "END"], &["Hi\nUs", "er", ": no"]), ("Hi".into(), Some(0)));
    assert_eq!(run(&["\nUser:", "END"], &["Hi EN", "D", " no"]), ("Hi ".into(), Some(1)));
    assert_eq!(run(&["aab"], &["aa", "a", "b", "x"]), ("a".into(), Some(0)));
    assert_eq!(run(&["é!", "🎉"], &["caf", "é", "🎉!"]), ("café".into(), Some(1)));
}

#[test]
fn the_match_that_ends_first_counts_and_the_longest_of_those() {
    assert_eq!(run(&["abcd", "bc"], &["abcd"]), ("a".into(), Some(1)));
    assert_eq!(run(&["bc", "abc"], &["xabc"]), ("x".into(), Some(1)));
}

#[test]
fn held_text_is_released_once_it_cannot_match_and_at_the_end() {
    let mut stop = StopStrings::new(["stop"]).unwrap();
    assert_eq!(stop.push("a st").text, "a ");
    assert_eq!(stop.push("a").text, "sta");
    assert_eq!(stop.push("sto").text, "");
    assert_eq!(stop.finish(), "sto");
    assert_eq!(stop.get(0), Some("stop"));
}

#[test]
fn an_empty_stop_string_is_refused_and_none_at_all_is_fine() {
    assert!(StopStrings::new(["a", ""]).unwrap_err().to_string().contains("stop[1]"));
    assert_eq!(run(&[], &["a", "b"]), ("ab".into(), None));
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_pieces(
        text in "[abé]{0,24}",
        stops in prop::collection::vec("[abé]{1,4}", 1..4),
        borders in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let chars: Vec<char> = text.chars().collect();
        let mut borders: Vec<usize> = borders.iter().map(|index| index.index(chars.len() + 1)).collect();
        borders.extend([0, chars.len()]);
        borders.sort_unstable();
        let pieces: Vec<String> = borders.windows(2).map(|pair| chars[pair[0]..pair[1]].iter().collect()).collect();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let found = run(&stops, &pieces.iter().map(String::as_str).collect::<Vec<_>>());

        let mut ends = (0..=text.len()).filter(|&end| text.is_char_boundary(end));
        let first = ends.find_map(|end| {
            let ending = stops.iter().enumerate().filter(|(_, stop)| text[..end].ends_with(**stop));
            let longest = ending.max_by_key(|(index, stop)| (stop.len(), usize::MAX - index));
            longest.map(|(index, stop)| (end - stop.len(), index))
        });
        let expected = first.map_or((text.clone(), None), |(start, index)| (text[..start].to_owned(), Some(index)));
        prop_assert_eq!(found, expected);
    }
}
