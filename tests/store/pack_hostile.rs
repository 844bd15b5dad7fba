//! Bytes that are not a valid pack: altered, cut, forged. Each is refused with a reason, without a panic and without memory for
//! what it claims.

use headstart::store::{MAX_HEADER, Pack, PackError, PackLimits, Reject};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::pack::{EXPECTED, KEYS, pack};
use super::*;
use crate::checkpoints::alloc::peak;
use crate::support::blob::{forged, regions};

fn read(bytes: &[u8]) -> Result<Pack, PackError> {
    Pack::read(bytes.to_vec(), &PackLimits::default())
}

fn reason(bytes: &[u8]) -> Reject {
    match read(bytes) {
        Err(PackError::Damaged(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// The header without its padding, and the data.
fn split(bytes: &[u8]) -> (String, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (String::from_utf8(bytes[8..8 + length].to_vec()).unwrap().trim_end().to_owned(), bytes[8 + length..].to_vec())
}

/// A file whose digest fits this header and these data.
fn signed(mut header: Value, data: &[u8]) -> Vec<u8> {
    let pad = |header: &Value| {
        let mut text = header.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        text
    };
    header["__metadata__"]["digest"] = json!("0".repeat(64));
    let digest = Sha256::new_with_prefix(pad(&header)).chain_update(data).finalize();
    header["__metadata__"]["digest"] = json!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    file(&pad(&header), data)
}

#[test]
fn every_flipped_bit_is_detected() {
    let pack = pack(37, true);
    let whole = pack.bytes();
    let data = whole.len() - split(whole).1.len();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << bit;
            let found = reason(&bytes);
            assert!(at < data || found == Reject::Digest, "bit {bit} of byte {at}: {found}");
        }
    }
}

#[test]
fn every_cut_is_detected() {
    let pack = pack(20, true);
    let whole = pack.bytes();
    for length in 0..whole.len() {
        assert_eq!(reason(&whole[..length]), Reject::Truncated, "{length} bytes");
    }
    for extra in [1, 8, 4096] {
        assert_eq!(reason(&[whole, &vec![0; extra]].concat()), Reject::Size, "{extra} bytes more");
    }
}

#[test]
fn a_block_is_not_read_as_a_pack_nor_a_pack_as_a_block() {
    assert_eq!(reason(&blob(16, true).encode()), Reject::Version);
    assert_eq!(Blob::parse(pack(16, true).bytes()), Err(Reject::Version));
}

#[test]
fn forged_headers_are_refused_even_with_a_digest_that_fits() {
    let pack = pack(20, true);
    let (text, data) = split(pack.bytes());
    let header: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(signed(header.clone(), &data), pack.bytes(), "the forger works");
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        read(&signed(header, &data))
    };
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |path: &'static str, value: Value| -> Change {
        Box::new(move |header| *header.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone())
    };
    let add = |name: &'static str, value: Value| -> Change {
        // Inserted in sorted order, so that the order is not the reason for the refusal.
        Box::new(move |header| {
            let fields = header["__metadata__"].as_object_mut().unwrap();
            fields.insert(name.into(), value.clone());
            fields.sort_keys();
        })
    };
    let drop = |name: &'static str| -> Change {
        Box::new(move |header| _ = header["__metadata__"].as_object_mut().unwrap().shift_remove(name))
    };
    for (what, change) in [
        ("a field that nobody knows", add("more", json!("x"))),
        ("a name of two lines", set("/__metadata__/name", json!("a\nb"))),
        ("an empty name", set("/__metadata__/name", json!(""))),
        ("a long name", set("/__metadata__/name", json!("x".repeat(129)))),
        ("a long text", set("/__metadata__/text", json!("x".repeat(1025)))),
        ("no name", drop("name")),
        ("no key", drop("key")),
        ("a short key", set("/__metadata__/key", json!("00"))),
        ("no producer", drop("producer")),
        ("another producer", set("/__metadata__/producer", json!("magic"))),
        ("no tokens", set("/tokens/shape", json!([0]))),
        ("tokens of rank 2", set("/tokens/shape", json!([20, 1]))),
        ("a k that overlaps", set("/k.0/data_offsets", json!([0, 160]))),
        ("a k of fewer rows", set("/k.0/shape", json!([10, 8]))),
        ("a huge shape", set("/tokens/shape", json!([1u64 << 62]))),
        ("a stranger", Box::new(|h| h["x"] = json!({"dtype": "U8", "shape": [0], "data_offsets": [492, 492]}))),
        ("no last layer", Box::new(|h| _ = h.as_object_mut().unwrap().shift_remove("v.1"))),
    ] {
        let found = forged(&change);
        let refused = matches!(found, Err(PackError::Damaged(Reject::Header | Reject::Truncated | Reject::Size)));
        assert!(refused, "{what}: {found:?}");
    }
    assert_eq!(forged(&set("/__metadata__/format", json!("headstart-pack/2"))), Err(Reject::Version.into()));

    // Fields that a forger may write are not trusted either.
    let other = forged(&set("/__metadata__/key", json!("ab".repeat(32)))).unwrap();
    assert_eq!((other.check(&EXPECTED), other.blobs(&KEYS).err()), (Ok(()), Some(PackError::Key)));
    let without_text = forged(&drop("text")).unwrap();
    assert_eq!(without_text.header().text, None);
}

#[test]
fn headers_that_claim_huge_sizes_cost_nothing() {
    let whole = pack(20, true).bytes().to_vec();
    let (text, data) = split(&whole);
    for (length, expected) in [
        (u64::MAX, Reject::Header),
        (1 << 40, Reject::Header),
        (MAX_HEADER as u64 + 1, Reject::Header),
        (MAX_HEADER as u64, Reject::Truncated),
        (0, Reject::Header),
    ] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(reason(&bytes), expected, "{length}");
    }
    let tensor = |name: &str| format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let many: Vec<String> = (0..4000).map(|i| tensor(&format!("t{i}"))).collect();
    for (name, header) in [
        ("open brackets", "[".repeat(200_000)),
        ("open objects", "{\"a\":".repeat(40_000)),
        ("many tensors", format!("{{{}}}", many.join(","))),
        ("tokens without end", text.replace("\"shape\":[20]", "\"shape\":[4611686018427387904]")),
        ("a row without end", text.replace("\"shape\":[20,4]", "\"shape\":[20,4611686018427387904]")),
        ("offsets without end", text.replace("[0,80]", "[0,18446744073709551615]")),
    ] {
        let bytes = file(header.as_bytes(), &data);
        let (result, rose) = peak(|| Pack::read(bytes, &PackLimits::default()));
        assert!(matches!(result, Err(PackError::Damaged(_))), "{name}: {result:?}");
        assert!(rose < 16 * header.len() + (64 << 10), "{name}: {rose} bytes for a header of {}", header.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300), length in 0u64..200) {
        prop_assert!(read(&noise).is_err());
        prop_assert!(read(&[&length.to_le_bytes()[..], &noise].concat()).is_err());
    }

    #[test]
    fn changed_bytes_are_refused(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let whole = pack(20, true).bytes().to_vec();
        let mut bytes = whole.clone();
        edits.iter().for_each(|(at, byte)| bytes[at.index(whole.len())] = *byte);
        prop_assert_eq!(read(&bytes).is_ok(), bytes == whole);
    }
}

#[test]
fn infinite_and_nan_values_are_refused() {
    let whole = pack(37, true);
    let regions = regions(whole.bytes());
    for (region, value) in [
        ("k.0", &[0x00u8, 0x7c][..]),
        ("v.1", &[0x01, 0xfe]),
        ("last_hidden", &f32::NAN.to_le_bytes()),
        ("last_hidden", &f32::NEG_INFINITY.to_le_bytes()),
    ] {
        let mut bytes = whole.bytes().to_vec();
        bytes[regions[region].start..][..value.len()].copy_from_slice(value);
        // The digest fits these bytes.
        let at = regions[region].end - 1;
        bytes[at] ^= 1;
        let bytes = forged(&bytes, at, 0);
        let told = Pack::read(bytes, &PackLimits::default()).unwrap_err();
        assert_eq!(told, PackError::Damaged(Reject::NotFinite), "{region}");
        assert!(told.to_string().contains("infinite or NaN"), "{told}");
    }
}
