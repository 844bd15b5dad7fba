//! GGUF versions 2 and 3, little-endian: metadata and tensor table.
//!
//! Layout (ggml, docs/gguf.md): magic, version u32, tensor count u64, key count u64; each key: name, type u32, value;
//! each tensor: name, dimensions u32, sizes u64 (fastest first), type u32, offset u64; then the data, aligned to
//! `general.alignment` (32 unless said otherwise), offsets counted from its start. A string is a u64 length and bytes.
//!
//! Cost: one pass over the header. Arrays of numbers are kept as bytes, so memory stays near the header's size,
//! whatever the counts claim.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    checkpoint::{TensorInfo, check_layout, check_shape},
    fields::{Field, Fields},
    reader::{DAMAGED, Reader, refuse_pointer},
    safetensors::{Unread, elements},
    source::ByteSource,
};
use crate::{
    error::{Error, Result},
    quant::Format,
};

const MAX_NAME: u64 = 1 << 10;
const MAX_STRING: u64 = 64 << 20;
const MAX_ALIGNMENT: u32 = 1 << 20;
const MAX_DIMS: u32 = 4;

/// The element type of a GGUF array or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// One metadata value. Narrow numbers are widened. An array of numbers is kept as its kind and its little-endian bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Numbers(NumberKind, Vec<u8>),
    Strings(Vec<String>),
}

/// The typed key-value map of a GGUF header. [`Fields`] reads scalars; the getters here read arrays.
#[derive(Debug)]
pub struct GgufMetadata {
    file: String,
    values: BTreeMap<String, Value>,
}

impl Fields for GgufMetadata {
    fn file(&self) -> &str {
        &self.file
    }

    fn lookup(&self, key: &str) -> Option<Field<'_>> {
        Some(match self.values.get(key)? {
            Value::Unsigned(x) => Field::Unsigned(*x),
            Value::Signed(x) => Field::Signed(*x),
            Value::Float(x) => Field::Float(*x),
            Value::Bool(x) => Field::Bool(*x),
            Value::String(x) => Field::Str(x),
            Value::Numbers(..) => Field::Other("an array of numbers as"),
            Value::Strings(_) => Field::Other("an array of strings as"),
        })
    }
}

impl GgufMetadata {
    /// Every key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Strings(x)) => Ok(Some(x)),
            Some(_) => Err(self.array_expected(key, "an array of strings")),
        }
    }

    /// An array of 32-bit integers, signed or unsigned. Values above `i32::MAX` are refused.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Numbers(kind @ (NumberKind::I32 | NumberKind::U32), raw)) => {
                let numbers: Vec<i32> = words(raw).map(|word| word as i32).collect();
                match numbers.iter().position(|&x| *kind == NumberKind::U32 && x < 0) {
                    Some(at) => Err(self.wrong(key, format!("element {at} is more than 31 bits hold"))),
                    None => Ok(Some(numbers)),
                }
            }
            Some(_) => Err(self.array_expected(key, "an array of 32-bit integers")),
        }
    }

    /// The ids of one token or an array of tokens. As in [`Fields::id`], ids outside the vocabulary of `vocab` are left
    /// out.
    pub(crate) fn ids(&self, key: &str, vocab: usize) -> Result<Vec<u32>> {
        match self.values.get(key) {
            Some(Value::Numbers(NumberKind::I32 | NumberKind::U32, raw)) => {
                Ok(words(raw).filter(|&id| (id as usize) < vocab).collect())
            }
            _ => Ok(self.id(key, vocab)?.into_iter().collect()),
        }
    }

    /// An array of booleans.
    pub(crate) fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Numbers(NumberKind::Bool, raw)) => Ok(Some(raw.iter().map(|&byte| byte != 0).collect())),
            Some(_) => Err(self.array_expected(key, "an array of true and false")),
        }
    }

    /// An array of finite f32.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Numbers(NumberKind::F32, raw)) => {
                let numbers: Vec<f32> = words(raw).map(f32::from_bits).collect();
                match numbers.iter().position(|x| !x.is_finite()) {
                    Some(at) => Err(self.wrong(key, format!("element {at} is {}", numbers[at]))),
                    None => Ok(Some(numbers)),
                }
            }
            Some(_) => Err(self.array_expected(key, "an array of f32")),
        }
    }

    fn array_expected(&self, key: &str, expected: &str) -> Error {
        let found = self.lookup(key).unwrap_or(Field::Other("no"));
        self.wrong_type(key, expected, &found)
    }
}

fn words(raw: &[u8]) -> impl Iterator<Item = u32> {
    raw.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// The content of a header.
pub(crate) struct Header {
    pub(crate) metadata: GgufMetadata,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    pub(crate) unread: Vec<Unread>,
}

/// Reads and checks the header of `source`, which is the only part of a checkpoint or one of its shards.
pub(crate) async fn read_header(source: &dyn ByteSource) -> Result<Header> {
    let mut reader = Reader::new(source);
    let tensors = read_preamble(&mut reader, source).await?;

    reader.field = "metadata count".to_owned();
    // The least size of an entry: a key's length, its type and a value of one byte.
    let keys = reader.count(8 + 4 + 1, "keys").await?;
    let mut values = BTreeMap::new();
    for index in 0..keys {
        reader.field = format!("metadata key {index} of {keys}");
        let key = reader.string(MAX_NAME, "its name").await?;
        reader.field.clone_from(&key);
        let value = read_value(&mut reader).await?;
        match values.entry(key) {
            Entry::Vacant(entry) => entry.insert(value),
            Entry::Occupied(_) => return Err(reader.fail("the key occurs twice", DAMAGED)),
        };
    }
    let metadata = GgufMetadata { file: source.name().to_owned(), values };
    let alignment = alignment(&metadata)?;

    let (mut table, mut unread) = (BTreeMap::new(), Vec::new());
    for index in 0..tensors {
        reader.field = format!("tensor {index} of {tensors}");
        let info = match read_tensor(&mut reader, alignment).await? {
            Ok(info) => info,
            Err(other) => {
                unread.push(other);
                continue;
            }
        };
        match table.entry(info.name.clone()) {
            Entry::Vacant(entry) => entry.insert(info),
            Entry::Occupied(_) => return Err(reader.fail("the name occurs twice", DAMAGED)),
        };
    }
    let data = reader.position().next_multiple_of(alignment);
    for info in table.values_mut() {
        // An offset near 2^64 is beyond the end of every file.
        info.offset = info.offset.saturating_add(data);
    }
    check_layout(source.name(), source.len(), table.values())?;
    Ok(Header { metadata, tensors: table, unread })
}

/// Magic, version and tensor count.
async fn read_preamble(reader: &mut Reader<'_>, source: &dyn ByteSource) -> Result<u64> {
    const GIVE: &str = "give a .gguf file, or the directory of a Hugging Face model";
    reader.field = "magic".to_owned();
    if source.is_empty() {
        return Err(reader.fail("the file is empty", "download it again"));
    }
    refuse_pointer(source).await?;
    let magic: [u8; 4] = reader.array().await?;
    if magic != *b"GGUF" {
        return Err(reader.fail(format!("not a GGUF file: it starts with \"{}\"", magic.escape_ascii()), GIVE));
    }
    reader.field = "version".to_owned();
    match reader.u32().await? {
        2 | 3 => {}
        version => {
            let order = if version.swap_bytes() <= 3 { " (big-endian)" } else { "" };
            return Err(Error::Unsupported {
                file: source.name().to_owned(),
                what: format!("GGUF version {version}{order}"),
                fix: "take a little-endian file of version 2 or 3".to_owned(),
            });
        }
    }
    reader.field = "tensor count".to_owned();
    // The least size of an entry: a name's length, one dimension, a type and an offset.
    reader.count(8 + 4 + 8 + 4 + 8, "tensors").await
}

fn alignment(metadata: &GgufMetadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.u32(KEY)? {
        None => Ok(32),
        Some(x) if x.is_power_of_two() && x <= MAX_ALIGNMENT => Ok(x.into()),
        Some(x) => Err(metadata.wrong(KEY, format!("{x} is not a power of two up to {MAX_ALIGNMENT}"))),
    }
}

async fn read_value(reader: &mut Reader<'_>) -> Result<Value> {
    const STRING: u32 = 8;
    const ARRAY: u32 = 9;
    let kind = reader.u32().await?;
    match kind {
        STRING => Ok(Value::String(reader.string(MAX_STRING, "the string").await?)),
        ARRAY => {
            let kind = reader.u32().await?;
            match (kind, number_kind(kind)) {
                (STRING, _) => {
                    let count = reader.count(8, "strings").await?;
                    let mut strings = Vec::new();
                    for _ in 0..count {
                        strings.push(reader.string(MAX_STRING, "a string of the array").await?);
                    }
                    Ok(Value::Strings(strings))
                }
                (_, Some((kind, bytes))) => {
                    let count = reader.count(bytes, "numbers").await?;
                    let raw = reader.bytes(count * bytes).await?.to_vec();
                    Ok(Value::Numbers(kind, raw))
                }
                (ARRAY, _) => Err(reader.fail("an array of arrays, which no model uses", DAMAGED)),
                _ => Err(reader.fail(format!("array of unknown type {kind}"), DAMAGED)),
            }
        }
        _ => match number_kind(kind) {
            Some((kind, bytes)) => {
                let mut wide = [0; 8];
                let raw = reader.bytes(bytes).await?;
                wide[..raw.len()].copy_from_slice(raw);
                match number(kind, u64::from_le_bytes(wide)) {
                    Some(value) => Ok(value),
                    None => Err(reader.fail("a boolean that is neither 0 nor 1", DAMAGED)),
                }
            }
            None => Err(reader.fail(format!("value of unknown type {kind}"), DAMAGED)),
        },
    }
}

/// The kind and bytes of `enum gguf_type`'s numbers.
fn number_kind(kind: u32) -> Option<(NumberKind, u64)> {
    Some(match kind {
        0 => (NumberKind::U8, 1),
        1 => (NumberKind::I8, 1),
        2 => (NumberKind::U16, 2),
        3 => (NumberKind::I16, 2),
        4 => (NumberKind::U32, 4),
        5 => (NumberKind::I32, 4),
        6 => (NumberKind::F32, 4),
        7 => (NumberKind::Bool, 1),
        10 => (NumberKind::U64, 8),
        11 => (NumberKind::I64, 8),
        12 => (NumberKind::F64, 8),
        _ => return None,
    })
}

/// A number from its bits, zero-extended.
fn number(kind: NumberKind, bits: u64) -> Option<Value> {
    Some(match kind {
        NumberKind::U8 | NumberKind::U16 | NumberKind::U32 | NumberKind::U64 => Value::Unsigned(bits),
        NumberKind::I8 => Value::Signed((bits as i8).into()),
        NumberKind::I16 => Value::Signed((bits as i16).into()),
        NumberKind::I32 => Value::Signed((bits as i32).into()),
        NumberKind::I64 => Value::Signed(bits as i64),
        NumberKind::F32 => Value::Float(f32::from_bits(bits as u32).into()),
        NumberKind::F64 => Value::Float(f64::from_bits(bits)),
        NumberKind::Bool if bits <= 1 => Value::Bool(bits == 1),
        NumberKind::Bool => return None,
    })
}

/// Reads one entry of the tensor table. Its offset is still relative to the start of the data.
async fn read_tensor(reader: &mut Reader<'_>, alignment: u64) -> Result<Result<TensorInfo, Unread>> {
    let name = reader.string(MAX_NAME, "its name").await?;
    reader.field = format!("tensor {name}");
    let dims = reader.u32().await?;
    if dims == 0 || dims > MAX_DIMS {
        return Err(reader.fail(format!("{dims} dimensions, expected 1 to {MAX_DIMS}"), DAMAGED));
    }
    let mut sizes = Vec::new();
    for _ in 0..dims {
        sizes.push(reader.u64().await?);
    }
    sizes.reverse();
    let kind = reader.u32().await?;
    let offset = reader.u64().await?;

    let Some(format) = Format::from_gguf(kind) else {
        return Ok(Err(Unread { format: type_name(kind), name, elements: elements(&sizes) }));
    };
    let (shape, bytes) = check_shape(&sizes, format).map_err(|problem| reader.fail(problem, DAMAGED))?;
    if !offset.is_multiple_of(alignment) {
        return Err(reader.fail(format!("offset {offset} is not a multiple of the alignment {alignment}"), DAMAGED));
    }
    Ok(Ok(TensorInfo { name, format, shape, part: 0, offset, bytes }))
}

/// The name of a number of `enum ggml_type`, for messages.
fn type_name(kind: u32) -> String {
    const NAMES: [&str; 31] = [
        "f32", "f16", "q4_0", "q4_1", "q4_2", "q4_3", "q5_0", "q5_1", "q8_0", "q8_1", "q2_k", "q3_k", "q4_k", "q5_k",
        "q6_k", "q8_k", "iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "i8", "i16",
        "i32", "i64", "f64", "iq1_m", "bf16",
    ];
    NAMES.get(kind as usize).map_or_else(|| format!("number {kind}"), |name| (*name).to_owned())
}
