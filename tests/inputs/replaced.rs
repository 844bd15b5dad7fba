//! A model file replaced by another of the same size and modification time, as happens in image layers.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use headstart::weights::{ByteSource, FileSource};

use super::{Model, run};
use crate::cli::{json_of, str_of};

fn write_long_ago(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
}

#[test]
fn kv_of_the_replaced_file_is_not_used() {
    let model = Model::new();
    let first = model.file.build();
    // Flips the sign of a value in the embedding of one of the prompt's tokens.
    let place = first.len() - model.file.tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>() / 2;
    let variant = |at: usize| {
        let mut bytes = first.clone();
        bytes[at] ^= 0x80;
        bytes
    };
    let (path, beside) = (model.folder.path().join("m.gguf"), model.folder.path().join("beside.gguf"));
    let cache = model.folder.path().join("kv");
    let prompt = "the tenth time that they talked to the tall tailor of the town";
    let disk = || {
        let arguments = ["--raw", "-p", prompt, "-n", "2", "--json", "--cache-dir", str_of(&cache)];
        json_of(&mut run("generate", &path, &arguments))["cache"]["sources"]["disk"].as_u64().unwrap()
    };
    write_long_ago(&path, &first);
    assert_eq!(disk(), 0);
    assert!(disk() >= 16, "a model finds its own KV");
    write_long_ago(&path, &variant(place));
    assert_eq!(disk(), 0, "written over");
    assert!(disk() >= 16);
    write_long_ago(&beside, &variant(place + 4));
    fs::rename(&beside, &path).unwrap();
    assert_eq!(disk(), 0, "the file was replaced");
    fs::remove_file(&path).unwrap();
    write_long_ago(&path, &variant(place + 8));
    assert_eq!(disk(), 0, "made anew");
}

#[test]
fn a_sampled_digest_tells_files_apart_that_differ_in_many_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let sample = |bytes: &[u8]| {
        write_long_ago(&path, bytes);
        FileSource::open(&path).unwrap().identity().unwrap().sample
    };
    for len in [0, 1, 5000, 70_000, 140_000, 4 << 20] {
        let zeros = sample(&vec![0; len]);
        assert_eq!(zeros, sample(&vec![0; len]));
        let mut changes: Vec<std::ops::Range<usize>> = vec![0..len.min(1), len.saturating_sub(1)..len];
        changes.extend((0..8).map(|part| part * len / 8..(part + 1) * len / 8));
        for change in changes.into_iter().filter(|change| !change.is_empty()) {
            let mut bytes = vec![0; len];
            bytes[change.clone()].fill(1);
            assert_ne!(sample(&bytes), zeros, "{change:?} of {len}");
        }
    }
}
