//! The header of a safetensors file: a u64 length, followed by JSON that maps tensor names to type, shape and byte
//! range.
//!
//! The format and its rules (no holes, no overlaps, nothing after the last tensor) are those of the `safetensors`
//! crate. That crate's parser needs the whole file in memory, or else silently keeps the last of two equal names and
//! does not name the tensor at fault, so the header is parsed here.

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    checkpoint::{TensorInfo, check_shape},
    reader::{DAMAGED, TRUNCATED, refuse_pointer},
    source::ByteSource,
};
use crate::{
    error::{Error, Result},
    quant::Format,
};

/// The bound that the `safetensors` crate sets.
const MAX_HEADER: u64 = 100_000_000;

/// A JSON object in order, with duplicate keys.
pub(crate) struct Pairs<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Collect<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

impl<V> Pairs<V> {
    /// The first duplicate key.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(key, _)| key.as_str()).find(|key| !seen.insert(*key))
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A tensor of an unsupported type. It is an error only if a model needs it.
pub(crate) struct Unread {
    pub(crate) name: String,
    pub(crate) format: String,
    pub(crate) elements: u64,
}

/// The number of elements of an unchecked shape.
pub(super) fn elements(sizes: &[u64]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size))
}

/// Reads and checks the header of `source`, part number `part` of a checkpoint.
pub(crate) async fn read_header(source: &dyn ByteSource, part: usize) -> Result<(Vec<TensorInfo>, Vec<Unread>)> {
    let file = source.name();
    let fail = |field: &str, problem: String, fix| Error::Format {
        file: file.to_owned(),
        field: field.to_owned(),
        problem,
        fix,
    };
    refuse_pointer(source).await?;
    if source.len() < 8 {
        return Err(fail("header length", format!("the file has {} bytes, no room for it", source.len()), TRUNCATED));
    }
    let mut length = [0; 8];
    source.read(0, &mut length).await?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        let fix = "check that this is a safetensors file, and download it again";
        return Err(fail("header length", format!("{length} bytes, more than {MAX_HEADER}"), fix));
    }
    if length > source.len() - 8 {
        return Err(fail("header length", format!("{length} bytes, but the file has {}", source.len()), TRUNCATED));
    }
    let mut header = vec![0; length as usize];
    source.read(8, &mut header).await?;
    let entries: Pairs<Value> =
        serde_json::from_slice(&header).map_err(|error| fail("header", error.to_string(), DAMAGED))?;
    if let Some(name) = entries.duplicate() {
        return Err(fail(&format!("tensor {name}"), "the name occurs twice".to_owned(), DAMAGED));
    }

    let (mut tensors, mut unread, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
    let data = 8 + length;
    for (name, value) in entries.0 {
        if name == "__metadata__" {
            continue;
        }
        let bad = |problem: String| fail(&format!("tensor {name}"), problem, DAMAGED);
        let entry: Entry = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        let [start, end] = entry.data_offsets;
        if start > end || end > source.len() - data {
            let problem = format!("data from {start} to {end} of {} bytes", source.len() - data);
            return Err(fail(&format!("tensor {name}: data_offsets"), problem, TRUNCATED));
        }
        ranges.push((start, end, name.clone()));
        let Some(format) = Format::from_safetensors(&entry.dtype) else {
            unread.push(Unread { elements: elements(&entry.shape), format: entry.dtype, name });
            continue;
        };
        // A scalar is treated as a row of one element.
        let sizes = if entry.shape.is_empty() { &[1][..] } else { &entry.shape };
        let (shape, bytes) =
            check_shape(sizes, format).map_err(|problem| bad(format!("shape {sizes:?}: {problem}")))?;
        if bytes != end - start {
            return Err(bad(format!("{} bytes of data, but its shape and type take {bytes}", end - start)));
        }
        tensors.push(TensorInfo { name, format, shape, part, offset: data + start, bytes });
    }

    ranges.sort_unstable();
    let mut covered = 0;
    for (start, end, name) in ranges {
        if start != covered {
            let what = if start < covered { "overlaps the tensor before it" } else { "leaves a hole before it" };
            let problem = format!("data from {start} to {end} {what}, which ends at {covered}");
            return Err(fail(&format!("tensor {name}: data_offsets"), problem, DAMAGED));
        }
        covered = end;
    }
    if covered != source.len() - data {
        let extra = source.len() - data - covered;
        return Err(fail("file length", format!("{extra} bytes lie behind the last tensor"), DAMAGED));
    }
    Ok((tensors, unread))
}
