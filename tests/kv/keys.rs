//! Keys: golden vectors from another implementation, and that keys are equal exactly if all inputs are.

use headstart::kv::{Fields, Key, Namespace, PAGE};
use proptest::prelude::*;
use serde_json::Value;

fn fields(values: &[String; 8]) -> Fields {
    let [weights, architecture, rope, kv_dtype, kv_layout, adapter, salt, numerics] = values.clone();
    Fields { weights, architecture, rope, kv_dtype, kv_layout, adapter, salt, numerics }
}

#[test]
fn keys_are_those_of_the_golden_file() {
    let file: Value = serde_json::from_str(include_str!("../golden/hash_vectors.json")).expect("JSON");
    assert_eq!(file["page"], PAGE);
    let vectors = file["vectors"].as_array().expect("a list");
    assert!(vectors.len() >= 54);
    for tag in Fields::default().entries().map(|entry| entry.0) {
        let alone = |vector: &Value| vector["fields"].as_object().unwrap().iter().all(|(t, v)| (t == tag) != (v == ""));
        assert!(vectors.iter().any(alone), "no vector has {tag} alone");
    }
    for vector in vectors {
        let tags = Fields::default().entries().map(|entry| entry.0);
        let namespace = Namespace::new(fields(&tags.map(|tag| vector["fields"][tag].as_str().expect(tag).to_string())));
        let tokens: Vec<u32> = serde_json::from_value(vector["tokens"].clone()).expect("tokens");
        let keys: Vec<String> = Key::chain(&namespace, &tokens).map(|key| key.to_string()).collect();
        assert_eq!(namespace.key().to_string(), vector["namespace"]);
        assert_eq!(Value::from(keys.clone()), vector["keys"]);
        let last = keys.last().cloned().unwrap_or(namespace.key().to_string());
        assert_eq!(Key::of(&namespace, &tokens), Key::from_hex(&last).expect("hex"));
    }
}

#[test]
fn only_64_hex_digits_are_a_key() {
    let key = Namespace::new(Fields::default()).key();
    assert_eq!(Key::from_hex(&key.to_string()), Some(key));
    for text in ["", "00", &key.to_string()[1..], &"zz".repeat(32), &"é".repeat(32)] {
        assert_eq!(Key::from_hex(text), None, "{text}");
    }
}

#[test]
fn fields_are_rebuilt_from_their_entries_in_any_order_and_from_nothing_else() {
    let values: [String; 8] = std::array::from_fn(|i| format!("value {i}"));
    let fields = fields(&values);
    let mut entries = fields.entries();
    entries.reverse();
    assert_eq!(Fields::from_entries(entries), Some(fields.clone()));
    for at in 0..8 {
        let without = (0..8).filter(|i| *i != at).map(|i| entries[i]);
        assert_eq!(Fields::from_entries(without.clone()), None, "without {}", entries[at].0);
        assert_eq!(Fields::from_entries(without.chain([("other", "x")])), None);
        assert_eq!(Fields::from_entries(entries.into_iter().chain([entries[at]])), None, "{} twice", entries[at].0);
    }
}

#[test]
fn a_difference_names_its_field_and_salt_last() {
    let plain = Namespace::new(Fields::default());
    assert_eq!(plain.difference(&plain), None);
    for tag in 0..8 {
        let mut values: [String; 8] = Default::default();
        values[tag] = "x".into();
        let other = Namespace::new(fields(&values));
        assert_eq!(plain.difference(&other), Some(Fields::default().entries()[tag].0));
        values[6] = "s".into();
        values[7] = "n".into();
        if tag != 6 && tag != 7 {
            assert_eq!(plain.difference(&Namespace::new(fields(&values))), Some(Fields::default().entries()[tag].0));
        }
    }
    let both = Fields { salt: "s".into(), numerics: "n".into(), ..Fields::default() };
    assert_eq!(plain.difference(&Namespace::new(both)), Some("numerics"));
}

/// Few letters and short strings, so that equal and shifted values are frequent.
fn values() -> impl Strategy<Value = [String; 8]> {
    prop::array::uniform8("[ab]{0,2}")
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..2, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_are_equal_exactly_when_fields_and_tokens_are(
        a in values(), b in values(), mut x in tokens(), y in tokens(), same in 0..4, swap in (0..8usize, 0..8usize),
    ) {
        let mut b = if same & 1 == 0 { a.clone() } else { b };
        b.swap(swap.0, swap.1);
        if same & 2 == 0 {
            x.clone_from(&y);
        }
        let (left, right) = (Namespace::new(fields(&a)), Namespace::new(fields(&b)));
        prop_assert_eq!(left.key() == right.key(), a == b);
        prop_assert_eq!(Key::of(&left, &x) == Key::of(&right, &y), a == b && x == y);
    }

    #[test]
    fn moving_text_between_fields_changes_the_key(
        text in "[a-z]{1,6}", cut in 0..6usize, other in 0..6usize, at in 0..7usize,
    ) {
        let split = |cut: usize| {
            let mut values: [String; 8] = Default::default();
            let (left, right) = text.split_at(cut.min(text.len()));
            (values[at], values[at + 1]) = (left.into(), right.into());
            values
        };
        let (a, b) = (split(cut), split(other));
        prop_assert_eq!(Namespace::new(fields(&a)).key() == Namespace::new(fields(&b)).key(), a == b);
    }

    /// Values that contain the bytes hashed between fields.
    #[test]
    fn values_that_contain_field_framing_change_the_key(
        text in "[ab]{0,2}", cut in 0..64usize, first in 0..7usize, into in 0..8usize,
    ) {
        let tags = Fields::default().entries().map(|entry| entry.0);
        let framed = |part: &str| format!("{}\0\0\0\0\0\0\0{part}", part.len() as u8 as char);
        // The end of one field's value, the whole next field, and the beginning of what follows.
        let spelled = [text.as_str(), &framed(tags[first + 1]), &framed(&text), &framed(tags[into])].concat();
        let mut whole: [String; 8] = Default::default();
        whole[first] = spelled.clone();
        let mut parted: [String; 8] = Default::default();
        let (left, right) = spelled.split_at(cut.min(spelled.len()));
        parted[first] = left.into();
        parted[into] = format!("{}{right}", parted[into]);
        let (a, b) = (Namespace::new(fields(&whole)), Namespace::new(fields(&parted)));
        prop_assert_eq!(a.key() == b.key(), whole == parted);
        // The fields that this would be equal to if lengths were not hashed.
        let mut plain: [String; 8] = Default::default();
        (plain[first], plain[first + 1]) = (text.clone(), text);
        prop_assert_ne!(a.key(), Namespace::new(fields(&plain)).key());
    }

    #[test]
    fn changing_any_token_changes_its_key_and_all_after(
        tokens in prop::collection::vec(0u32..9, 1..70), at in 0..70usize,
    ) {
        let namespace = Namespace::new(Fields::default());
        let at = at % tokens.len();
        let mut changed = tokens.clone();
        changed[at] += 1;
        let pairs = Key::chain(&namespace, &tokens).zip(Key::chain(&namespace, &changed));
        for (block, (a, b)) in pairs.enumerate() {
            prop_assert_eq!(a == b, block < at / PAGE);
        }
    }
}
