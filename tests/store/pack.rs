//! Packs: blocks are packed into a file and read back unchanged, and packs that do not fit the model are refused with a reason.

use std::cell::Cell;

use headstart::kv;
use headstart::store::{
    BLOCK, BlockKeys, Bytes, Expected, MemoryStore, Pack, PackError, PackExpected, PackHeader, PackLimits, PackStore,
    Reject, Store, StoreError, Tiers, TiersConfig,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::*;
use crate::checkpoints::alloc::peak;

fn block_key(parent: &StoreKey, tokens: &[u32]) -> StoreKey {
    kv::Key::block(&kv::Key(*parent), tokens).0
}

pub const KEYS: BlockKeys = BlockKeys { root: [7; 32], block: &block_key };

pub const VOCAB: usize = 50_000;

pub const EXPECTED: PackExpected = PackExpected {
    namespace: &NAMESPACE,
    element: Element::F16,
    rows: &ROWS,
    windows: 0,
    hidden: HIDDEN,
    state: 0,
    vocab: VOCAB,
};

/// The blocks of a prefix of `n` tokens, each with different bytes.
pub fn prefix(n: usize, hidden: bool) -> Vec<Blob> {
    let tokens: Vec<u32> = (0..n).map(|i| (i * 7919 % VOCAB) as u32).collect();
    let mut parent = KEYS.root;
    let blocks = tokens.chunks(BLOCK).enumerate().map(|(i, tokens)| {
        let mut block = blob(tokens.len(), hidden && (i + 1) * BLOCK >= n);
        block.kv = halves(block.kv.iter().map(|byte| usize::from(*byte) + i * 13));
        let key = block_key(&parent, tokens);
        (block.parent, block.key, block.tokens) = (std::mem::replace(&mut parent, key), key, tokens.to_vec());
        block
    });
    blocks.collect()
}

pub fn pack(n: usize, hidden: bool) -> Pack {
    Pack::from_blobs("greeting", Some("You are"), None, &prefix(n, hidden), &KEYS).unwrap()
}

fn read(bytes: &[u8]) -> Result<Pack, PackError> {
    Pack::read(bytes.to_vec(), &PackLimits::default())
}

/// Reads the bytes through a source, and counts how many were read.
async fn load(bytes: &[u8], length: u64, limits: &PackLimits) -> (Result<Pack, PackError>, usize) {
    let asked = Cell::new(0);
    let source = async |offset: u64, out: &mut [u8]| {
        asked.set(asked.get() + out.len());
        let part = bytes.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(part.ok_or("the connection was cut")?);
        Ok::<_, &str>(())
    };
    (Pack::load(length, limits, source).await, asked.get())
}

#[track_caller]
fn refused(result: Result<impl Sized, PackError>, parts: &[&str]) {
    let message = result.err().expect("refused").to_string();
    parts.iter().for_each(|part| assert!(message.contains(part), "{message:?} lacks {part:?}"));
}

#[test]
fn blocks_are_packed_and_read_back_byte_for_byte() {
    for n in [1, 2, 15, 16, 17, 31, 32, 33, 100, 160, 1001] {
        for hidden in [false, true] {
            let blobs = prefix(n, hidden);
            let pack = pack(n, hidden);
            let back: Vec<Blob> = pack.blobs(&KEYS).unwrap().collect();
            assert_eq!(back, blobs, "{n} tokens");
            assert!(back.iter().zip(&blobs).all(|(a, b)| a.encode() == b.encode()));
            assert_eq!(pack.tokens(), blobs.iter().flat_map(|blob| blob.tokens.clone()).collect::<Vec<_>>());
            assert_eq!(pack.last_hidden(), blobs[blobs.len() - 1].last_hidden);
            assert_eq!(pack.check(&EXPECTED), Ok(()));

            assert_eq!(read(pack.bytes()).unwrap(), pack);
            let whole = pack.bytes().len();
            let (loaded, asked) = wait(load(pack.bytes(), whole as u64, &PackLimits::default()));
            assert_eq!((loaded.unwrap(), asked), (pack, whole), "every byte is read once");
        }
    }
}

#[test]
fn the_bytes_of_a_pack_are_fixed() {
    // Computed by a few lines of Python with json and hashlib, from the documented layout alone.
    const GOLDEN: [(usize, bool, &str); 2] = [
        (37, true, "a5c4efc9852b47a4a9e3e3351f3f4506fe66f9545e0014a76d16b7581ef1b83a"),
        (16, false, "450af4d00428d9413450e45d35fc496555c572a83b41f483e16770a32c1fdc06"),
    ];
    for (n, hidden, golden) in GOLDEN {
        let digest: String = Sha256::digest(pack(n, hidden).bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, golden, "{n} tokens");
    }
    let first = pack(100, true);
    assert!((0..20).all(|_| pack(100, true).bytes() == first.bytes()));
}

#[test]
fn any_safetensors_reader_can_read_it() {
    let (blobs, pack) = (prefix(37, true), pack(37, true));
    let tensors = SafeTensors::deserialize(pack.bytes()).unwrap();
    assert_eq!(tensors.len(), 6);
    let k: Vec<u8> = blobs.iter().flat_map(|blob| blob.k(1).to_vec()).collect();
    let tensor = tensors.tensor("k.1").unwrap();
    assert_eq!((tensor.shape(), tensor.data()), (&[37, 3][..], &k[..]));
    let (_, header) = SafeTensors::read_metadata(pack.bytes()).unwrap();
    let metadata = header.metadata().clone().unwrap();
    for (name, value) in
        [("format", "headstart-pack/1"), ("name", "greeting"), ("text", "You are"), ("ns.weights", "w1")]
    {
        assert_eq!(metadata[name], value);
    }
}

#[test]
fn the_header_tells_what_a_pack_is_before_its_data_are_read() {
    let pack = pack(100, true);
    let bytes = pack.bytes();
    let asked = Cell::new(0);
    let source = async |offset: u64, out: &mut [u8]| {
        asked.set(asked.get() + out.len());
        out.copy_from_slice(&bytes[offset as usize..][..out.len()]);
        Ok::<_, String>(())
    };
    let header = wait(PackHeader::load(bytes.len() as u64, &PackLimits::default(), source)).unwrap();
    assert_eq!(&header, pack.header());
    assert_eq!((&*header.name, header.text.as_deref(), header.tokens), ("greeting", Some("You are"), 100));
    assert_eq!((header.key, header.hidden), (prefix(100, true)[6].key, Some(HIDDEN)));
    assert_eq!((header.bytes, header.check(&EXPECTED)), (bytes.len() as u64, Ok(())));
    assert!(asked.get() < bytes.len() - 100 * 20, "{} of {} bytes", asked.get(), bytes.len());
}

#[test]
fn a_preview_is_bounded_and_names_are_one_line() {
    let blobs = prefix(5, false);
    let text = "é".repeat(2000);
    let pack = Pack::from_blobs("x", Some(&text), None, &blobs, &KEYS).unwrap();
    assert_eq!(pack.header().text.as_deref(), Some(&text[..1024]));
    let text = format!("a{text}");
    let pack = Pack::from_blobs("x", Some(&text), None, &blobs, &KEYS).unwrap();
    assert_eq!(pack.header().text.as_ref().map(String::len), Some(1023), "no character is cut");
    assert_eq!(Pack::from_blobs(&"é".repeat(64), None, None, &blobs, &KEYS).unwrap().header().text, None);
    for name in ["", "two\nlines", "\u{1b}[2J", &"é".repeat(65)] {
        refused(Pack::from_blobs(name, None, None, &blobs, &KEYS), &["name of a pack", "one line"]);
    }
}

#[test]
fn only_whole_consecutive_blocks_are_packed() {
    let build = |change: &dyn Fn(&mut Vec<Blob>)| {
        let mut blobs = prefix(40, true);
        change(&mut blobs);
        Pack::from_blobs("x", None, None, &blobs, &KEYS)
    };
    assert!(build(&|_| {}).is_ok());
    refused(build(&|blobs| blobs.clear()), &["at least one block", "warm"]);
    refused(build(&|blobs| drop(blobs.remove(1))), &["block 1", "does not follow"]);
    refused(build(&|blobs| drop(blobs.remove(0))), &["block 0", "does not follow"]);
    refused(build(&|blobs| blobs.swap(0, 1)), &["block 0", "does not follow"]);
    refused(build(&|blobs| blobs.push(blobs[0].clone())), &["block 2", "only the last", "16 tokens"]);
    refused(build(&|blobs| blobs[1].tokens[3] += 1), &["block 1", "key", "tokens"]);
    refused(build(&|blobs| blobs[0].key = key(9)), &["block 0", "key", "tokens"]);
    refused(build(&|blobs| _ = blobs[2].kv.pop()), &["block 2", "KV"]);
    refused(build(&|blobs| blobs[2].rows.truncate(1)), &["block 2", "layers"]);
    refused(build(&|blobs| blobs[1].element = Element::U8), &["block 1", "layers"]);
    refused(build(&|blobs| blobs[1].producer = Producer::Decode), &["block 1", "decoding", "warm"]);
    refused(build(&|blobs| drop(blobs[1].namespace.remove("rope"))), &["block 1", "namespace"]);
    let long = |blobs: &mut Vec<Blob>| {
        blobs.iter_mut().for_each(|blob| drop(blob.namespace.insert("long".into(), "x".repeat(1 << 20))));
    };
    refused(build(&long), &["header"]);
    // A hidden state inside the prefix is left out of a pack.
    let inside = build(&|blobs| blobs[0].last_hidden = Some(vec![1.0; HIDDEN])).unwrap();
    assert_eq!(inside, build(&|_| {}).unwrap());
}

#[test]
fn decoded_blocks_stay_marked() {
    let mut blobs = prefix(20, false);
    blobs.iter_mut().for_each(|blob| blob.producer = Producer::Decode);
    let pack = Pack::from_blobs("x", None, None, &blobs, &KEYS).unwrap();
    assert_eq!(pack.header().producer, Producer::Decode);
    assert_eq!(read(pack.bytes()).unwrap().blobs(&KEYS).unwrap().collect::<Vec<_>>(), blobs);
}

#[test]
fn another_models_pack_is_refused_with_the_reason() {
    let pack = pack(40, true);
    let with = |tag: &str, value: &'static str| {
        let namespace = NAMESPACE.map(|(name, old)| (name, if name == tag { value } else { old }));
        pack.check(&PackExpected { namespace: &namespace, ..EXPECTED })
    };
    refused(with("weights", "w2"), &["made with other weights: w1, here w2;", "export it again"]);
    refused(with("rope", "{\"base\":50000}"), &["made with other RoPE settings", "50000"]);
    assert_eq!(with("salt", "secret"), Err(PackError::Salt));
    refused(with("salt", "secret"), &["another salt", "export it again"]);
    assert!(!PackError::Salt.to_string().contains("secret"));

    let more = [NAMESPACE[0], NAMESPACE[1], NAMESPACE[2], ("adapter", "lora")];
    let adapter = |namespace| pack.check(&PackExpected { namespace, ..EXPECTED });
    refused(adapter(&more), &["another adapter: not told, here lora"]);
    refused(adapter(&NAMESPACE[..2]), &["another salt"]);
    refused(adapter(&NAMESPACE[1..]), &["other weights: w1, here not told"]);
    let both = [("salt", "secret"), ("weights", "w2"), NAMESPACE[1]];
    refused(adapter(&both), &["other weights"]);

    let check = |expected: PackExpected| pack.check(&expected);
    refused(check(PackExpected { rows: &ROWS[..1], ..EXPECTED }), &["layers: 2, here 1"]);
    let wider = [ROWS[0], Row { k: 6, v: 4 }];
    refused(check(PackExpected { rows: &wider, ..EXPECTED }), &["layer 1", "2 of V", "here", "4 of V"]);
    refused(check(PackExpected { element: Element::U8, ..EXPECTED }), &["element type: F16, here U8"]);
    refused(check(PackExpected { hidden: 9, ..EXPECTED }), &["last_hidden: 3, here 9"]);
    let largest = *pack.tokens().iter().max().unwrap() as usize;
    assert_eq!(check(PackExpected { vocab: largest + 1, ..EXPECTED }), Ok(()));
    let at = pack.tokens().iter().position(|&token| token as usize == largest).unwrap();
    let parts = [&format!("token {at} of the pack is {largest}"), "vocabulary"];
    refused(check(PackExpected { vocab: largest, ..EXPECTED }), &parts);
}

#[test]
fn long_values_are_shown_where_they_differ_and_escaped() {
    let make = |tag: &str, value: String| {
        let mut blobs = prefix(3, false);
        blobs[0].namespace.insert(tag.into(), value);
        Pack::from_blobs("x", None, None, &blobs, &KEYS).unwrap()
    };
    let theirs = format!("{}yarn{}", "a".repeat(300), "b".repeat(300));
    let ours = format!("{}none{}", "a".repeat(300), "b".repeat(300));
    let namespace = [NAMESPACE[0], ("rope", &*ours), NAMESPACE[2]];
    let error = make("rope", theirs).check(&PackExpected { namespace: &namespace, ..EXPECTED }).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("aayarnbb") && message.contains("aanonebb") && message.len() < 250, "{message}");

    let error = make("weights", "\u{1b}[2J".into()).check(&EXPECTED).unwrap_err().to_string();
    assert!(error.contains("\\u{1b}[2J") && !error.contains('\u{1b}'), "{error}");
    let error = make(&"\u{7}x".repeat(900), "y".into()).check(&EXPECTED).unwrap_err().to_string();
    assert!(!error.contains('\u{7}') && error.len() < 500, "{error}");
}

#[test]
fn keys_come_from_the_tokens() {
    let pack = pack(40, true);
    let other = BlockKeys { root: key(3), ..KEYS };
    assert_eq!(pack.blobs(&other).err(), Some(PackError::Key));
    let store = PackStore::default();
    assert_eq!(store.add(pack.clone(), &EXPECTED, &other), Err(PackError::Key));
    let foreign = PackExpected { vocab: 1, ..EXPECTED };
    assert!(matches!(store.add(pack, &foreign, &KEYS), Err(PackError::Token { .. })));
    assert_eq!(store.headers(), []);
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let pack = pack(100, false);
    let (bytes, length) = (pack.bytes(), pack.bytes().len() as u64);
    let limits = PackLimits { bytes: length - 1, ..PackLimits::default() };
    refused(Pack::read(bytes.to_vec(), &limits), &["bytes, at most", "shorter prefix"]);
    let (result, asked) = wait(load(bytes, length, &limits));
    refused(result, &["bytes, at most"]);
    assert_eq!(asked, 0);
    let limits = PackLimits { tokens: 99, ..PackLimits::default() };
    refused(Pack::read(bytes.to_vec(), &limits), &["100 tokens, at most 99"]);
    let (result, asked) = wait(load(bytes, length, &limits));
    refused(result, &["100 tokens, at most 99"]);
    assert!(asked < bytes.len() / 2);
    let limits = PackLimits { bytes: length, tokens: 100 };
    assert!(Pack::read(bytes.to_vec(), &limits).is_ok());

    // A source that claims any length beyond the header costs only the header.
    for claimed in [length + 1, 1 << 30, u64::MAX] {
        let limits = PackLimits { bytes: u64::MAX, tokens: usize::MAX };
        let ((result, _), rose) = peak(|| wait(load(bytes, claimed, &limits)));
        assert!(result.is_err());
        assert!(rose < 64 << 10, "{rose} bytes for a claim of {claimed}");
    }
    let (result, _) = wait(load(&bytes[..bytes.len() - 1], length, &PackLimits::default()));
    refused(result, &["could not be read", "connection was cut"]);
    let (result, _) = wait(load(bytes, 5, &PackLimits::default()));
    assert_eq!(result.err(), Some(PackError::Damaged(Reject::Truncated)));
}

#[test]
fn a_long_pack_is_held_once() {
    let tokens = 2000;
    let rows = [Row { k: 384, v: 384 }; 8];
    let mut blobs = prefix(tokens, false);
    for blob in &mut blobs {
        let bytes = blob.tokens.len() * 8 * 768;
        (blob.rows, blob.kv) = (rows.to_vec(), halves((0..bytes).map(|i| i * 7)));
    }
    let (pack, made) = peak(|| Pack::from_blobs("x", None, None, &blobs, &KEYS).unwrap());
    let size = pack.bytes().len();
    assert!(size > 12_000_000);
    let small = size + size / 20;
    assert!(made < small, "making took {made} bytes for {size}");
    let file = pack.bytes().to_vec();
    let (pack, rose) = peak(|| Pack::read(file, &PackLimits::default()).unwrap());
    assert!(rose < size / 20, "reading took {rose} bytes beside {size}");
    let ((loaded, _), rose) = peak(|| wait(load(pack.bytes(), size as u64, &PackLimits::default())));
    assert_eq!(loaded.unwrap(), pack);
    assert!(rose < small, "loading took {rose} bytes for {size}");
    let (same, rose) = peak(|| pack.blobs(&KEYS).unwrap().eq(blobs.iter().cloned()));
    assert!(same && rose < size / 20, "cutting took {rose} bytes for {size}");
    let store = PackStore::default();
    let expected = PackExpected { rows: &rows, ..EXPECTED };
    let (_, rose) = peak(|| store.add(pack, &expected, &KEYS).unwrap());
    assert!(rose < size / 20, "serving took {rose} bytes beside {size}");
    let (bytes, rose) = peak(|| wait(store.get(&blobs[60].key)).unwrap().unwrap());
    assert_eq!(bytes, blobs[60].encode());
    assert!(rose < size / 20, "a block took {rose} bytes");
}

#[test]
fn a_store_of_packs_serves_their_blocks_and_is_read_only() {
    let store = PackStore::default();
    let blobs = prefix(40, true);
    let keys: Vec<StoreKey> = blobs.iter().map(|blob| blob.key).chain([key(9)]).collect();
    assert_eq!(wait(store.contains(&keys)).unwrap(), [false; 4]);
    store.add(pack(40, true), &EXPECTED, &KEYS).unwrap();
    assert_eq!(store.name(), "pack");
    assert_eq!(wait(store.contains(&keys)).unwrap(), [true, true, true, false]);
    for blob in &blobs {
        let bytes = wait(store.get(&blob.key)).unwrap().unwrap();
        assert_eq!(bytes, blob.encode());
        assert_eq!(
            Blob::decode(&bytes, &Expected { key: blob.key, parent: blob.parent, ..expected(blob) }).as_ref(),
            Ok(blob)
        );
    }
    assert_eq!(wait(store.get(&key(9))).unwrap(), None);
    let bytes = pack(40, true).bytes().len() as u64;
    assert_eq!((store.usage().entries, store.usage().bytes), (3, bytes));

    let refused = |error: StoreError| assert!(matches!(error, StoreError::ReadOnly { store: "pack" }), "{error}");
    refused(wait(store.put(&keys[0], &Bytes::from_static(b"x"), None)).unwrap_err());
    refused(wait(store.remove(&keys[0])).unwrap_err());
    wait(store.clear()).unwrap();
    wait(store.touch(&keys));
    assert_eq!(store.usage().entries, 3, "packs stay");
}

#[test]
fn packs_are_added_removed_and_may_overlap() {
    let store = PackStore::default();
    let handle = store.clone();
    handle.add(pack(40, true), &EXPECTED, &KEYS).unwrap();
    handle.add(pack(40, true), &EXPECTED, &KEYS).unwrap();
    assert_eq!(store.headers().len(), 1, "the same pack twice is one");
    // A shorter pack ends inside the longer one. Its last block is preferred, because it has a hidden state.
    for n in [32, 16] {
        let end = prefix(n, true).pop().unwrap();
        let without = wait(store.get(&end.key)).unwrap().unwrap();
        assert_eq!(without, Blob { last_hidden: None, ..end.clone() }.encode());
        handle.add(pack(n, true), &EXPECTED, &KEYS).unwrap();
        assert_eq!(wait(store.get(&end.key)).unwrap().unwrap(), end.encode());
    }
    assert_eq!(store.headers().iter().map(|header| header.tokens).collect::<Vec<_>>(), [40, 32, 16]);
    let longest = prefix(40, true)[2].key;
    assert!(store.remove_pack(&longest) && !store.remove_pack(&longest));
    assert_eq!(wait(store.contains(&[longest, prefix(32, true)[1].key])).unwrap(), [false, true]);
}

#[test]
fn a_pack_is_a_tier() {
    let store = PackStore::default();
    let memory = MemoryStore::new(1 << 20, Time::at(1).clock());
    let tiers = Tiers::new(memory, vec![Box::new(store.clone())], TiersConfig::default());
    let blobs = prefix(40, true);
    store.add(pack(40, true), &EXPECTED, &KEYS).unwrap();
    for blob in &blobs {
        let loaded = wait(tiers.load(&expected(blob))).unwrap();
        assert_eq!((&loaded.value, loaded.name), (blob, "pack"));
        assert_eq!(wait(tiers.load(&expected(blob))).unwrap().name, "memory");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_blocks_are_read_back_unchanged(
        tokens in prop::collection::vec(any::<u32>(), 1..70),
        rows in prop::collection::vec((0usize..5, 0usize..5), 0..5),
        hidden in prop::option::of(prop::collection::vec(any::<u32>(), 0..9)),
        fields in prop::collection::btree_map("[a-z_]{1,8}", ".{0,20}", 0..5),
        name in "[^\\p{Cc}]{1,32}",
        text in prop::option::of(".{0,60}"),
        decoded in any::<bool>(),
        state in 0usize..5,
        windows in 0usize..5,
        root in any::<StoreKey>(),
    ) {
        let keys = BlockKeys { root, ..KEYS };
        let rows: Vec<Row> = rows.iter().map(|&(k, v)| Row { k: 2 * k, v: 2 * v }).collect();
        let width = rows.iter().map(|row| row.k + row.v).sum::<usize>();
        let mut parent = root;
        let blobs: Vec<Blob> = tokens.chunks(BLOCK).enumerate().map(|(block, part)| {
            let key = block_key(&parent, part);
            let last = (block + 1) * BLOCK >= tokens.len();
            // As bits: any numbers except NaN, which is unequal to itself.
            let hidden = hidden.as_ref().filter(|_| last).map(|bits| bits.iter().map(|&bits| f32::from_bits(bits & 0xbf7f_ffff)).collect());
            Blob {
                key, parent: std::mem::replace(&mut parent, key), tokens: part.to_vec(), namespace: fields.clone(),
                producer: if decoded { Producer::Decode } else { Producer::Prefill }, last_hidden: hidden,
                element: Element::F16, rows: rows.clone(), windows: windows.min(rows.len()), kv: halves((0..width * part.len()).map(|i| i * 31 + block)),
                state: (0..state).map(|i| (i * 7 + block) as f32).collect(),
            }
        }).collect();
        let pack = Pack::from_blobs(&name, text.as_deref(), None, &blobs, &keys).unwrap();
        let pack = Pack::read(pack.bytes().to_vec(), &PackLimits::default()).unwrap();
        prop_assert_eq!((&pack.header().name, &pack.header().text), (&name, &text));
        let back: Vec<Blob> = pack.blobs(&keys).unwrap().collect();
        prop_assert_eq!(&back, &blobs);
        let again = Pack::from_blobs(&name, text.as_deref(), None, &back, &keys).unwrap();
        prop_assert_eq!(again.bytes(), pack.bytes());
    }
}
