//! The file of a block: equal blobs give equal bytes, other readers can read it, and it is read back unchanged.

use headstart::store::{Blob, Element, Expected, Producer, Reject, Row};
use proptest::prelude::*;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::*;

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_a_blob_are_fixed() {
    // Computed by a few lines of Python with json and hashlib, from the documented layout alone.
    assert_eq!(sha(&blob(16, true).encode()), GOLDEN[0]);
    assert_eq!(sha(&blob(5, false).encode()), GOLDEN[1]);
}

const GOLDEN: [&str; 2] = [
    "3135dd2ce7201432bd733baeb49745ac3a464ef0ec012dd3703ce59376754ab1",
    "2eba90f9d535eb3a3bdaf6a558ebceb115a3e255721dbad2671b2b17d68d3800",
];

#[test]
fn encoding_again_changes_no_byte() {
    let blob = blob(16, true);
    let first = blob.encode();
    assert!((0..20).all(|_| blob.clone().encode() == first));
}

#[test]
fn encoded_blobs_are_decoded() {
    for n in 1..=16 {
        for hidden in [false, true] {
            for producer in [Producer::Prefill, Producer::Decode] {
                let mut blob = blob(n, hidden);
                blob.producer = producer;
                let found = Blob::decode(&blob.encode(), &expected(&blob)).unwrap();
                assert_eq!((&found.tokens, &found.last_hidden), (&blob.tokens, &blob.last_hidden));
                assert_eq!((found.key, found.parent, found.producer), (blob.key, blob.parent, producer));
                assert_eq!((&found.kv, &found.rows), (&blob.kv, &blob.rows));
                assert_eq!(found.encode(), blob.encode());
            }
        }
    }
}

#[test]
fn layers_are_found_at_their_offsets() {
    let blob = blob(3, false);
    let parts = [(blob.k(0), 24), (blob.v(0), 12), (blob.k(1), 18), (blob.v(1), 6)];
    assert!(parts.iter().all(|(part, bytes)| part.len() == *bytes));
    assert_eq!(parts.map(|(part, _)| part).concat(), blob.kv);
}

#[test]
fn any_safetensors_reader_can_read_it() {
    let blob = blob(5, true);
    let bytes = blob.encode();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), 6);
    let tensor = |name: &str| tensors.tensor(name).unwrap();
    assert_eq!(tensor("k.1").shape(), [5, 3]);
    assert_eq!((tensor("k.1").data(), tensor("v.0").data()), (blob.k(1), blob.v(0)));
    assert_eq!(tensor("tokens").data()[..8], [7, 0, 0, 0, 0xef, 0x03, 0, 0]);
    assert_eq!(tensor("last_hidden").data()[..4], 0.5f32.to_le_bytes());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!(metadata["ns.weights"], "w1");
    assert_eq!(metadata["producer"], "prefill");
    assert_eq!(metadata["key"].len(), 64);
}

#[test]
fn the_bits_of_numbers_are_preserved() {
    let mut blob = blob(1, true);
    blob.last_hidden = Some(vec![f32::MIN_POSITIVE / 2.0, -0.0, f32::MIN]);
    let found = Blob::decode(&blob.encode(), &expected(&blob)).unwrap();
    let bits = |blob: &Blob| blob.last_hidden.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found), bits(&blob));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_blob_is_read_back_unchanged(
        tokens in prop::collection::vec(any::<u32>(), 1..=16),
        rows in prop::collection::vec((0usize..5, 0usize..5), 0..5),
        halves in any::<bool>(),
        hidden in prop::option::of(prop::collection::vec(-1e9f32..1e9, 0..9)),
        fields in prop::collection::btree_map("[a-z_]{1,8}", ".{0,20}", 0..5),
        state in prop::collection::vec(any::<i16>(), 0..9),
        windows in 0usize..5,
        seed in any::<u8>(),
    ) {
        let element = if halves { Element::F16 } else { Element::U8 };
        // Without layers the element type is not stored.
        let element = if rows.is_empty() { Element::F16 } else { element };
        let unit = if element == Element::F16 { 2 } else { 1 };
        let rows: Vec<Row> = rows.iter().map(|&(k, v)| Row { k: unit * k, v: unit * v }).collect();
        let bytes = rows.iter().map(|row| row.k + row.v).sum::<usize>() * tokens.len();
        let blob = Blob {
            key: key(seed), parent: key(!seed), tokens, namespace: fields, producer: Producer::Decode, last_hidden: hidden, element,
            windows: windows.min(rows.len()), rows, kv: (0..bytes).map(|i| i as u8 ^ seed).collect(), state: state.into_iter().map(f32::from).collect(),
        };
        let fields: Vec<(&str, &str)> = blob.namespace.iter().map(|(tag, value)| (&**tag, &**value)).collect();
        let expected = Expected {
            key: blob.key, parent: blob.parent, tokens: &blob.tokens, namespace: &fields, element, rows: &blob.rows,
            windows: blob.windows, start: false, hidden: blob.last_hidden.as_ref().map_or(0, Vec::len), state: blob.state.len(),
        };
        let bytes = blob.encode();
        // The start of a truncated file is still valid, if it is complete.
        let start = blob.rows[..blob.rows.len() - blob.windows].iter().map(|row| row.k + row.v).sum::<usize>() * blob.tokens.len();
        let end = bytes.len() - (blob.kv.len() - start);
        let of_start = Expected { start: true, ..expected };
        if blob.windows > 0 {
            let without = Blob { kv: blob.kv[..start].to_vec(), ..blob.clone() };
            prop_assert_eq!(Blob::decode(&bytes[..end], &of_start), Ok(without.clone()));
            prop_assert_eq!(Blob::decode(&bytes, &of_start), Ok(without));
            prop_assert!(matches!(Blob::decode(&bytes[..end - 1], &of_start), Err(Reject::Truncated)));
            let mut other = bytes[..end].to_vec();
            other[end - 1] ^= 1;
            prop_assert!(Blob::decode(&other, &of_start).is_err());
        } else {
            prop_assert!(Blob::decode(&bytes, &of_start).is_err());
        }
        prop_assert_eq!(Blob::decode(&bytes, &expected), Ok(blob));
    }
}
