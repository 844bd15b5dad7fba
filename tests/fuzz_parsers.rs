//! Damages real headers in every way in which a file is damaged or forged. The result is a checkpoint or an error that names
//! the file: no panic, and no more memory than the size of the file justifies.
//!
//! `HEADSTART_FUZZ_CASES` sets the number of cases for each parser (default 250).

use std::collections::BTreeMap;

use headstart::{
    error::Result,
    model::Config,
    quant::Format,
    weights::{ByteSource, Checkpoint, MemorySource, ReadFuture},
};
use pollster::block_on;
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};

use crate::checkpoints::{alloc, model_path, safetensors as st, tiny};
use crate::support::fuzz_cases as cases;

#[derive(Debug, Clone)]
enum Damage {
    FlipBit {
        at: usize,
        bit: u8,
    },
    Truncate {
        at: usize,
    },
    /// Writes a length, preferably where there was one.
    Inflate {
        at: usize,
        value: u64,
    },
    Overwrite {
        at: usize,
        bytes: Vec<u8>,
    },
    /// Copies a piece of the file over another place, or inserts it there.
    Splice {
        from: usize,
        len: usize,
        to: usize,
        insert: bool,
    },
    Remove {
        at: usize,
        len: usize,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    let telling =
        prop::sample::select(vec![0, 1, 5, 255, 65_536, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX]);
    prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Damage::FlipBit { at, bit }),
        1 => at().prop_map(|at| Damage::Truncate { at }),
        4 => (at(), telling).prop_map(|(at, value)| Damage::Inflate { at, value }),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Damage::Overwrite { at, bytes }),
        2 => (at(), 1usize..200, at(), any::<bool>())
            .prop_map(|(from, len, to, insert)| Damage::Splice { from, len, to, insert }),
        1 => (at(), 1usize..64).prop_map(|(at, len)| Damage::Remove { at, len }),
    ]
}

/// Damages the first `header` bytes of `file`.
fn apply(file: &mut Vec<u8>, header: usize, damages: &[Damage]) {
    for damage in damages {
        let header = header.min(file.len());
        if header == 0 {
            return;
        }
        match damage {
            Damage::FlipBit { at, bit } => file[at % header] ^= 1 << bit,
            Damage::Truncate { at } => file.truncate(at % header),
            Damage::Inflate { at, value } => overwrite(file, at % header, &value.to_le_bytes()),
            Damage::Overwrite { at, bytes } => overwrite(file, at % header, bytes),
            Damage::Splice { from, len, to, insert } => {
                let from = from % header;
                let piece = file[from..(from + len).min(header)].to_vec();
                let to = to % header;
                if *insert {
                    file.splice(to..to, piece);
                } else {
                    overwrite(file, to, &piece);
                }
            }
            Damage::Remove { at, len } => {
                let at = at % header;
                file.drain(at..(at + len).min(header));
            }
        }
    }
}

fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    let len = bytes.len().min(file.len() - at);
    file[at..at + len].copy_from_slice(&bytes[..len]);
}

/// Opens, configures and looks up everything that trusts the header.
fn load(open: impl Future<Output = Result<Checkpoint>>) -> Result<()> {
    let checkpoint = block_on(open)?;
    let config = Config::from_checkpoint(&checkpoint)?;
    config.layers[0].rope.as_ref().expect("a Llama has RoPE").inv_freq(None)?;
    checkpoint.chat_template()?;
    config.check_tensors(&checkpoint)?;
    // A forged row may be as long as the file, which its length justifies. The memory limit is not about that.
    for tensor in checkpoint.tensors.values().filter(|tensor| tensor.row_bytes() < 1 << 16) {
        block_on(checkpoint.read_rows(tensor, 0..1))?;
    }
    Ok(())
}

/// Opens damaged headers. Memory may rise by `parsed` bytes, the most that the values of a sound header take, and by twice the
/// length of the file: a forged length within the file costs one window to read and one copy.
fn fuzz(cases: u32, whole: &[u8], header: usize, parsed: usize, len: usize, open: impl Fn(Vec<u8>) -> Result<()>) {
    open(whole.to_vec()).expect("the file is sound before it is damaged");
    let config = Cases { cases, failure_persistence: None, ..Cases::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(damage(), 1..4), |damages| {
        let mut file = whole.to_vec();
        apply(&mut file, header, &damages);
        let limit = parsed + 2 * len;
        let (result, peak) = alloc::peak(|| open(file));
        prop_assert!(peak <= limit, "{peak} bytes were allocated, {limit} allowed");
        if let Err(error) = result {
            let message = error.to_string();
            prop_assert!(message.contains("damaged") || message.contains("dir"), "no file named in {message:?}");
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Covers the tiny files and all that is parsed from them.
const PARSED: usize = 1 << 20;

fn header_of_gguf(file: &[u8]) -> usize {
    let checkpoint = block_on(Checkpoint::gguf(Box::new(MemorySource::new("whole", file)))).unwrap();
    checkpoint.tensors.values().map(|tensor| tensor.offset).min().unwrap() as usize
}

#[test]
fn damaged_gguf_files_are_refused_or_read() {
    let mut file = tiny::gguf(&tiny::config(), Format::Q8_0);
    file.set("tokenizer.chat_template", "{{ messages }}");
    let whole = file.build();
    let header = header_of_gguf(&whole);
    fuzz(4 * cases(), &whole, header, PARSED, whole.len(), |bytes| {
        load(Checkpoint::gguf(Box::new(MemorySource::new("damaged", bytes))))
    });
}

/// A header in memory, before data that have a length but no content.
struct HeaderOnly {
    header: Vec<u8>,
    len: u64,
}

impl ByteSource for HeaderOnly {
    fn name(&self) -> &str {
        "damaged"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> ReadFuture<'a> {
        assert!(offset.checked_add(out.len() as u64).is_some_and(|end| end <= self.len), "a read beyond the end");
        Box::pin(async move {
            out.fill(0);
            if let Some(held) = usize::try_from(offset).ok().and_then(|offset| self.header.get(offset..)) {
                let len = held.len().min(out.len());
                out[..len].copy_from_slice(&held[..len]);
            }
            Ok(())
        })
    }
}

#[test]
fn the_damaged_header_of_a_real_model_is_refused_or_read() {
    use std::io::Read;

    let checkpoint = block_on(Checkpoint::open(model_path())).unwrap();
    let header = checkpoint.tensors.values().map(|tensor| tensor.offset).min().unwrap();
    let len = checkpoint.parts[0].len();
    let mut whole = Vec::new();
    std::fs::File::open(model_path()).unwrap().take(header).read_to_end(&mut whole).unwrap();
    // A string takes 24 bytes in memory and 8 in the file, beside its text.
    fuzz(cases() / 5, &whole, header as usize, 16 * header as usize, len as usize, |header| {
        load(Checkpoint::gguf(Box::new(HeaderOnly { header, len })))
    });
}

#[test]
fn damaged_safetensors_are_refused_or_read() {
    let directory = tiny::directory(&tiny::config());
    let whole = directory["model.safetensors"].clone();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    fuzz(2 * cases(), &whole, header, PARSED, whole.len(), |bytes| {
        load_directory(&directory, "model.safetensors", bytes)
    });
}

#[test]
fn damaged_json_is_refused_or_read() {
    let mut directory = tiny::directory(&tiny::config());
    directory.insert("generation_config.json".into(), br#"{"eos_token_id": [2, 3], "temperature": 0.5}"#.to_vec());
    for name in ["config.json", "generation_config.json"] {
        let whole = directory[name].clone();
        fuzz(cases(), &whole, whole.len(), PARSED, whole.len(), |bytes| load_directory(&directory, name, bytes));
    }
    let weights = directory.remove("model.safetensors").unwrap();
    directory.insert("a.safetensors".into(), weights);
    let names = tiny::config().roles().into_iter().map(|role| role.name(headstart::weights::Kind::HuggingFace));
    let map: BTreeMap<String, &str> = names.map(|name| (name, "a.safetensors")).collect();
    let whole = serde_json::json!({ "weight_map": map }).to_string().into_bytes();
    const INDEX: &str = "model.safetensors.index.json";
    fuzz(cases(), &whole, whole.len(), PARSED, whole.len(), |bytes| load_directory(&directory, INDEX, bytes));
}

fn load_directory(directory: &st::Directory, name: &str, bytes: Vec<u8>) -> Result<()> {
    let mut directory = directory.clone();
    directory.insert(name.to_owned(), bytes);
    load(Checkpoint::safetensors("dir", st::sources(&directory)))
}
