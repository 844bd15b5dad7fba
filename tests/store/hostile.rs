//! Bytes that are not the requested blob: altered, cut, swapped, forged. Each is refused with a reason and never causes a
//! panic.

use headstart::store::{Blob, Element, MAX_HEADER, Producer, Reject, Row};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::support::blob::regions;

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

fn split(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

#[test]
fn every_flipped_bit_is_detected() {
    for (n, hidden) in [(16, true), (3, false)] {
        let blob = blob(n, hidden);
        let whole = blob.encode();
        let data = whole.len() - split(&whole).1.len();
        // The MAC is left out, since the store that keeps the file writes and checks it.
        let mac = &regions(&whole)["value of mac"];
        for at in (0..whole.len()).filter(|at| !mac.contains(at)) {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let found = Blob::decode(&bytes, &expected(&blob));
                assert!(found.is_err(), "bit {bit} of byte {at} of {} was not noticed", whole.len());
                if at >= data {
                    assert_eq!(found, Err(Reject::Digest), "bit {bit} of byte {at}");
                }
            }
        }
    }
}

#[test]
fn every_cut_is_detected() {
    let blob = blob(4, true);
    let whole = blob.encode();
    for length in 0..whole.len() {
        assert_eq!(Blob::decode(&whole[..length], &expected(&blob)), Err(Reject::Truncated), "{length} bytes");
    }
    for extra in [1, 8, 4096] {
        let longer = [&whole[..], &vec![0; extra]].concat();
        assert_eq!(Blob::decode(&longer, &expected(&blob)), Err(Reject::Size), "{extra} bytes more");
    }
    let endless = vec![b' '; MAX_HEADER + 4096];
    assert_eq!(Blob::decode(&endless, &expected(&blob)), Err(Reject::Size));
}

#[test]
fn anothers_blob_is_refused_with_the_reason() {
    let wanted = blob(16, false);
    let refused = |change: &dyn Fn(&mut Blob)| {
        let mut other = wanted.clone();
        change(&mut other);
        Blob::decode(&other.encode(), &expected(&wanted)).unwrap_err()
    };
    assert_eq!(refused(&|blob| blob.key = key(9)), Reject::Key);
    assert_eq!(refused(&|blob| blob.parent = key(9)), Reject::Parent);
    for i in 0..16 {
        assert_eq!(refused(&|blob| blob.tokens[i] += 1), Reject::Tokens);
    }
    for (field, _) in NAMESPACE {
        assert_eq!(refused(&|blob| blob.namespace.get_mut(field).unwrap().push('x')), Reject::Namespace);
        assert_eq!(refused(&|blob| drop(blob.namespace.remove(field))), Reject::Namespace);
    }
    assert_eq!(refused(&|blob| drop(blob.namespace.insert("more".into(), "x".into()))), Reject::Namespace);
    assert_eq!(refused(&|blob| blob.element = Element::U8), Reject::Layout);
    assert_eq!(refused(&|blob| blob.last_hidden = Some(vec![0.0; HIDDEN + 1])), Reject::Layout);
    assert_eq!(refused(&|blob| blob.rows = vec![Row { k: 4, v: 8 }, ROWS[1]]), Reject::Layout);
    let shorter = |blob: &mut Blob| {
        blob.tokens.truncate(15);
        blob.kv.truncate(15 * 20);
    };
    assert_eq!(refused(&shorter), Reject::Tokens);
    // The namespace is compared before the key, since it gives a better reason.
    let both = |blob: &mut Blob| {
        blob.key = key(9);
        blob.namespace.insert("weights".into(), "w2".into());
    };
    assert_eq!(refused(&both), Reject::Namespace);
}

#[test]
fn a_header_that_the_encoder_does_not_write_is_refused() {
    let blob = blob(4, true);
    let whole = blob.encode();
    let (header, data) = split(&whole);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        Blob::decode(&file(header.to_string().as_bytes(), &data), &expected(&blob)).unwrap_err()
    };
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |path: &'static str, value: Value| -> Change {
        Box::new(move |header| *header.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone())
    };
    let structure: Vec<(&str, Change)> = vec![
        ("no padding", Box::new(|_| {})),
        ("no metadata", Box::new(|h| drop(h.as_object_mut().unwrap().remove("__metadata__")))),
        ("metadata is no map", set("/__metadata__", json!([1]))),
        ("metadata of numbers", set("/__metadata__/key", json!(7))),
        ("no digest", Box::new(|h| drop(h["__metadata__"].as_object_mut().unwrap().remove("digest")))),
        ("no MAC", Box::new(|h| drop(h["__metadata__"].as_object_mut().unwrap().remove("mac")))),
        ("MAC of other letters", set("/__metadata__/mac", json!("A".repeat(64)))),
        ("short MAC", set("/__metadata__/mac", json!("00"))),
        ("digest of other letters", set("/__metadata__/digest", json!("A".repeat(64)))),
        ("short digest", set("/__metadata__/digest", json!("00"))),
        ("digest of wide letters", set("/__metadata__/digest", json!("é".repeat(32)))),
        ("no tensors", Box::new(|h| h.as_object_mut().unwrap().retain(|name, _| name == "__metadata__"))),
        ("no tokens", Box::new(|h| drop(h.as_object_mut().unwrap().remove("tokens")))),
        ("no last layer", Box::new(|h| drop(h.as_object_mut().unwrap().remove("v.1")))),
        ("a stranger", Box::new(|h| h["x"] = json!({"dtype": "U8", "shape": [0], "data_offsets": [96, 96]}))),
        ("tokens of rank 0", set("/tokens/shape", json!([]))),
        ("tokens of rank 2", set("/tokens/shape", json!([2, 2]))),
        ("tokens as floats", set("/tokens/dtype", json!("F32"))),
        ("an unknown type", set("/tokens/dtype", json!("U32x"))),
        ("a huge shape", set("/tokens/shape", json!([1u64 << 62]))),
        ("an overflowing shape", set("/tokens/shape", json!([u64::MAX, u64::MAX]))),
        ("a negative size", set("/tokens/shape", json!([-4]))),
        ("a fraction", set("/tokens/shape", json!([4.0]))),
        ("huge offsets", set("/v.1/data_offsets", json!([96, u64::MAX]))),
        ("backward offsets", set("/v.1/data_offsets", json!([96, 3]))),
        ("overlap", set("/k.0/data_offsets", json!([0, 32]))),
        ("k as columns", set("/k.0/shape", json!([2, 8]))),
        ("k of rank 1", set("/k.0/shape", json!([16]))),
        ("deep JSON", set("/tokens/shape", (0..100).fold(json!([]), |inner, _| json!([inner])))),
    ];
    for (name, change) in &structure {
        let found = changed(change);
        assert!(matches!(found, Reject::Header | Reject::Truncated | Reject::Size), "{name}: {found}");
    }
    assert_eq!(changed(&set("/__metadata__/format", json!("headstart-kv/1"))), Reject::Version);

    let text = String::from_utf8(whole[8..whole.len() - data.len()].to_vec()).unwrap();
    let twice = text.replacen("{\"__metadata__\"", "{\"tokens\":null,\"__metadata__\"", 1);
    for (name, header) in [
        ("a member twice", twice),
        ("other spaces", text.replacen("\",\"", "\", \"", 1)),
        ("other escapes", text.replacen("\"weights", "\"\\u0077eights", 1).replacen("w1", "\\u00771", 1)),
        ("more padding", format!("{text}        ")),
        ("a tail", format!("{text}{{}}")),
        ("nothing", String::new()),
        ("spaces", " ".repeat(64)),
        ("open brackets", "[".repeat(200_000)),
        ("open objects", "{\"a\":".repeat(40_000)),
        ("many tensors", many_tensors()),
    ] {
        assert_eq!(Blob::decode(&file(header.as_bytes(), &data), &expected(&blob)), Err(Reject::Header), "{name}");
    }
    assert_eq!(Blob::parse(&file(&[0xff; 64], &data)), Err(Reject::Header));
}

fn many_tensors() -> String {
    let tensor = json!({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]});
    let tensors: serde_json::Map<String, Value> = (0..4000).map(|i| (format!("t{i}"), tensor.clone())).collect();
    Value::Object(tensors).to_string()
}

#[test]
fn a_claimed_header_length_reserves_nothing() {
    let blob = blob(1, false);
    let whole = blob.encode();
    for (length, reason) in [
        (u64::MAX, Reject::Header),
        (1 << 40, Reject::Header),
        (MAX_HEADER as u64 + 1, Reject::Header),
        (MAX_HEADER as u64, Reject::Truncated),
        (0, Reject::Header),
    ] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(Blob::decode(&bytes, &expected(&blob)), Err(reason), "{length}");
    }
}

#[test]
fn a_name_for_every_reason() {
    let names: std::collections::BTreeSet<_> = Reject::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reject::ALL.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300), length in 0u64..200) {
        prop_assert!(Blob::parse(&noise).is_err());
        prop_assert!(Blob::parse(&[&length.to_le_bytes()[..], &noise].concat()).is_err());
    }

    #[test]
    fn pieces_of_two_blobs_do_not_make_a_valid_one(cut in 0usize..2000, from in 0usize..2000) {
        let (one, mut two) = (blob(16, true), blob(16, true));
        two.producer = Producer::Decode;
        two.kv.iter_mut().for_each(|byte| *byte ^= 0x5a);
        let (a, b) = (one.encode(), two.encode());
        let (cut, from) = (cut % a.len(), from % b.len());
        let mixed = [&a[..cut], &b[from..]].concat();
        let genuine = mixed == a || mixed == b;
        prop_assert_eq!(Blob::decode(&mixed, &expected(&one)).is_ok(), genuine);
    }
}
