//! Takes the file of a KV block apart.

use std::collections::BTreeMap;
use std::ops::Range;

use sha2::{Digest, Sha256};

/// The regions of a blob's file, in order and without gaps.
pub fn regions(whole: &[u8]) -> BTreeMap<String, Range<usize>> {
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&whole[8..8 + header]).unwrap();
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut found = BTreeMap::from([("length".to_owned(), 0..8), ("header".to_owned(), 8..8 + header)]);
    let place = |tag: &str, value: &str| {
        let at = 8 + text.find(&format!("\"{tag}\":{value}")).unwrap() + tag.len() + 3;
        at..at + value.len()
    };
    for (tag, value) in json["__metadata__"].as_object().unwrap().iter().filter(|(_, value)| *value != "") {
        found.insert(format!("value of {tag}"), place(tag, &value.to_string()));
    }
    found.insert("padding".to_owned(), 8 + text.trim_end().len()..8 + header);
    for (name, info) in json.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let at = |i: usize| 8 + header + info["data_offsets"][i].as_u64().unwrap() as usize;
        found.insert(name.clone(), at(0)..at(1));
    }
    found.retain(|_, region| region.start < region.end);
    found
}

/// The same file with one bit of its data flipped and a digest that fits: what somebody can forge who knows the format but has
/// no key.
pub fn forged(whole: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1 << bit;
    let regions = regions(whole);
    let digest = regions["value of digest"].start + 1;
    bytes[digest..digest + 64].fill(b'0');
    for voucher in ["value of mac", "value of signature"].iter().filter_map(|name| regions.get(*name)) {
        bytes[voucher.start + 1..voucher.end - 1].fill(b'0');
    }
    let found = Sha256::digest(&bytes[8..]).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes[digest..digest + 64].copy_from_slice(found.as_bytes());
    for voucher in ["value of mac", "value of signature"].iter().filter_map(|name| regions.get(*name)) {
        bytes[voucher.clone()].copy_from_slice(&whole[voucher.clone()]);
    }
    bytes
}
