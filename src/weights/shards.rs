//! A GGUF model in several files, as llama.cpp's gguf-split writes them: `NAME-00001-of-00003.gguf` and so on. Each
//! states its index from 0 (`split.no`), the number of files (`split.count`), and the number of tensors in all files
//! together (`split.tensors.count`). The first file has the model's metadata.

use std::collections::BTreeMap;
#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

#[cfg(not(target_arch = "wasm32"))]
use super::hugging_face::Files;
use super::{
    checkpoint::TensorInfo,
    fields::Fields,
    gguf::{self, GgufMetadata, Header},
    source::ByteSource,
};
use crate::error::{Error, Result};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Ordered by `split.no`.
type Shards = BTreeMap<u32, (Header, Box<dyn ByteSource>)>;

/// The parts of a shard's file name, which may have folders before it.
#[derive(PartialEq, Eq)]
struct ShardName<'a> {
    stem: &'a str,
    count: u16,
}

impl<'a> ShardName<'a> {
    /// `None` unless gguf-split writes such a name.
    fn parse(name: &'a str) -> Option<Self> {
        let (numbered, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = numbered.rsplit_once('-')?;
        let shard = Self { stem, count: count.parse().ok()? };
        let number = number.parse().ok()?;
        ((1..=shard.count).contains(&number) && shard.file(number) == name).then_some(shard)
    }

    /// `number` counts from 1.
    fn file(&self, number: u16) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.count)
    }
}

/// The names of all files of the model to which the GGUF file `name` belongs, in order. If it is not named as a shard,
/// that is the file alone.
pub(crate) fn gguf_files(name: &str) -> Vec<String> {
    match ShardName::parse(name) {
        Some(shard) => (1..=shard.count).map(|number| shard.file(number)).collect(),
        None => vec![name.to_owned()],
    }
}

/// [`gguf_files`] for a path. If the path is a link without a shard's name, its target counts.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn gguf_paths(path: &Path) -> Vec<PathBuf> {
    let beside = |path: &Path| {
        let files = gguf_files(path.file_name()?.to_str()?);
        (files.len() > 1).then(|| files.into_iter().map(|file| path.with_file_name(file)).collect())
    };
    let target = || path.is_symlink().then(|| path.canonicalize().ok()).flatten();
    beside(path).or_else(|| beside(&target()?)).unwrap_or_else(|| vec![path.to_owned()])
}

/// Whether a directory's weights are the shards of exactly one GGUF model.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn are_the_weights(files: &Files) -> bool {
    let mut models = files.keys().filter(|name| name.ends_with(".gguf")).map(|name| ShardName::parse(name));
    let first = models.next().flatten();
    first.is_some() && models.all(|other| other == first) && !files.keys().any(|name| name.ends_with(".safetensors"))
}

/// Reads the headers of all files of a model, given in any order. Returns their combined content, and the files in the
/// order that [`TensorInfo::part`] refers to.
pub(super) async fn read(sources: Vec<Box<dyn ByteSource>>) -> Result<(Header, Vec<Box<dyn ByteSource>>)> {
    let several = sources.len() > 1;
    let mut shards = Shards::new();
    let mut agreed = None;
    for source in sources {
        let header = gguf::read_header(&*source).await?;
        let (number, count) = place(&header.metadata, several)?;
        let (name, expected) = agreed.get_or_insert_with(|| (source.name().to_owned(), count));
        if count != *expected {
            return Err(fail(&*source, COUNT, format!("it is {count}, but {expected} in {name}")));
        }
        if let Some((_, other)) = shards.get(&number) {
            return Err(fail(&*source, NUMBER, format!("it is {number}, as in {}", other.name())));
        }
        shards.insert(number, (header, source));
    }
    let Some((name, count)) = agreed else {
        return Err(Error::Request { field: "files", problem: "are none; give the files of a model".into() });
    };
    if let Some(number) = (0..count).find(|number| !shards.contains_key(number)) {
        let files = gguf_files(&name);
        let missing = match files.get(number as usize) {
            Some(file) if files.len() == count as usize => file.clone(),
            _ => format!("shard {} of {count}", number + 1),
        };
        return Err(Error::Format {
            file: name,
            field: COUNT.to_owned(),
            problem: format!("the model has {count} shards, and {missing} is missing"),
            fix: "put all shards into one directory, or give them together, under the names they were published with",
        });
    }
    check_tensors(&shards)?;
    let (mut headers, parts): (Vec<_>, Vec<_>) = shards.into_values().unzip();
    let mut model = headers.remove(0);
    for (header, part) in headers.into_iter().zip(1..) {
        model.tensors.extend(header.tensors.into_iter().map(|(name, info)| (name, TensorInfo { part, ..info })));
        model.unread.extend(header.unread);
    }
    Ok((model, parts))
}

/// The index from 0 and the number of shards that a file states. A file without them is a whole model, if it is the
/// only one.
fn place(metadata: &GgufMetadata, several: bool) -> Result<(u32, u32)> {
    let count = match metadata.u32(COUNT)? {
        None if several => return Err(metadata.missing(COUNT)),
        Some(count @ (0 | 1)) if several => {
            return Err(metadata.wrong(COUNT, format!("it is {count}, but the file is called one of several")));
        }
        // gguf-split writes 0 when it merges shards.
        None | Some(0 | 1) => return Ok((0, 1)),
        Some(count) => count,
    };
    let number = metadata.required(NUMBER, metadata.u32(NUMBER)?)?;
    match number < count {
        true => Ok((number, count)),
        false => Err(metadata.wrong(NUMBER, format!("it is {number}, but {COUNT} is {count}"))),
    }
}

/// Checks that every tensor is in exactly one shard and none is missing.
fn check_tensors(shards: &Shards) -> Result<()> {
    let mut holders = BTreeMap::new();
    for (header, source) in shards.values() {
        for name in header.tensors.keys().chain(header.unread.iter().map(|tensor| &tensor.name)) {
            if let Some(other) = holders.insert(name, source.name()) {
                return Err(fail(&**source, &format!("tensor {name}"), format!("it is also in {other}")));
            }
        }
    }
    for (header, source) in shards.values() {
        if let Some(count) = header.metadata.u64(TENSORS)?.filter(|&count| count != holders.len() as u64) {
            return Err(fail(&**source, TENSORS, format!("it is {count}, but the files have {}", holders.len())));
        }
    }
    Ok(())
}

fn fail(source: &dyn ByteSource, field: &str, problem: String) -> Error {
    let fix = "take all shards of one model from one place, and only those";
    Error::Format { file: source.name().to_owned(), field: field.to_owned(), problem, fix }
}
