//! The tensor table of a checkpoint: what the rest of the engine sees, whatever files it came from.

use std::{collections::BTreeMap, ops::Range};

use super::{
    fields::Fields,
    gguf::{GgufMetadata, Header},
    hugging_face::{self, Files, HuggingFaceMetadata},
    reader::{DAMAGED, TRUNCATED},
    safetensors::Unread,
    shards,
    source::ByteSource,
};
use crate::{
    error::{Error, Result},
    quant::Format,
};

/// The conventions of a checkpoint: the names of its tensors and the order of the rows of Q and K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A GGUF file or the shards of one: rows of Q and K are interleaved for RoPE.
    Gguf,
    /// A directory as `save_pretrained` writes it.
    HuggingFace,
}

/// The metadata of the files.
#[derive(Debug)]
pub enum Metadata {
    /// The key-value pairs of the header.
    Gguf(GgufMetadata),
    /// The JSON files of the directory.
    HuggingFace(Box<HuggingFaceMetadata>),
}

/// One tensor of a checkpoint. Its bytes lie inside its part, and its rows consist of whole blocks of its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// How its elements are stored.
    pub format: Format,
    /// Row-major, slowest first: a matrix is `[rows, cols]`. Never empty, no size is 0.
    pub shape: Vec<usize>,
    /// The index of the part that holds it.
    pub(crate) part: usize,
    /// Bytes from the start of its part.
    pub offset: u64,
    pub(crate) bytes: u64,
}

impl TensorInfo {
    /// Elements of a row: the last size.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows of all leading sizes together; a vector is one row.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// May exceed `usize`, which has 32 bits in WebAssembly.
    pub fn elements(&self) -> u64 {
        self.rows() as u64 * self.cols() as u64
    }

    /// Bytes of a row in the file.
    pub fn row_bytes(&self) -> usize {
        self.format.file_bytes(self.cols())
    }
}

/// An opened checkpoint.
pub struct Checkpoint {
    /// The file or directory, as messages name it.
    pub name: String,
    /// The files that hold tensors: one file, or one for each shard.
    #[doc(hidden)]
    pub parts: Vec<Box<dyn ByteSource>>,
    /// Tensors by name. In a multimodal model, those of the language model have the names that they have in a language
    /// model alone. Tensors of unsupported types are left out.
    #[doc(hidden)]
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The metadata of the model.
    #[doc(hidden)]
    pub metadata: Metadata,
    /// Tensors of unsupported types, by name.
    unread: BTreeMap<String, Unread>,
}

impl Checkpoint {
    /// Opens a `.gguf` file (with its other shards, if it is one of several), a directory of such shards, or a Hugging
    /// Face directory. Reads headers only.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::Format`] and [`Error::Unsupported`] for its content.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        use super::source::FileSource;

        let path = path.as_ref();
        if !path.is_dir() {
            let files = shards::gguf_paths(path).into_iter().filter(|file| file == path || file.is_file());
            let sources = files.map(|file| Ok(Box::new(FileSource::open(file)?) as Box<dyn ByteSource>));
            return Self::gguf_shards(sources.collect::<Result<_>>()?).await;
        }
        let mut files = Files::new();
        for entry in std::fs::read_dir(path).map_err(|source| Error::io(path, source))? {
            let entry = entry.map_err(|source| Error::io(path, source))?;
            // Links are followed, since the hub's cache consists of them.
            if let Some(name) = entry.file_name().to_str()
                && entry.path().is_file()
            {
                files.insert(name.to_owned(), Box::new(FileSource::open(entry.path())?));
            }
        }
        let tool_use = path.join(hugging_face::TOOL_USE);
        if tool_use.is_file() {
            files.insert(hugging_face::TOOL_USE.to_owned(), Box::new(FileSource::open(tool_use)?));
        }
        if shards::are_the_weights(&files) {
            let shards = files.into_iter().filter(|(name, _)| name.ends_with(".gguf"));
            return Self::gguf_shards(shards.map(|(_, source)| source).collect()).await;
        }
        Self::safetensors(path.display().to_string(), files).await
    }

    /// Opens a GGUF file from any byte source.
    ///
    /// # Errors
    /// As [`Checkpoint::safetensors`].
    pub async fn gguf(source: Box<dyn ByteSource>) -> Result<Self> {
        Self::gguf_shards(vec![source]).await
    }

    /// Opens a GGUF model from all its files, in any order: a single file, or the shards that llama.cpp's gguf-split
    /// makes.
    ///
    /// # Errors
    /// As [`Checkpoint::safetensors`]; [`Error::Format`] if shards are missing or do not belong together.
    pub async fn gguf_shards(sources: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        let (Header { metadata, tensors, unread }, parts) = shards::read(sources).await?;
        Ok(Self {
            name: metadata.file().to_owned(),
            parts,
            tensors,
            metadata: Metadata::Gguf(metadata),
            unread: by_name(unread),
        })
    }

    /// Opens a Hugging Face directory given as its files by plain name: `config.json`, `model.safetensors` or
    /// `model.safetensors.index.json` and its shards; where they exist `tokenizer.json`, `tokenizer_config.json`,
    /// `special_tokens_map.json`, `generation_config.json`, `chat_template.jinja` and
    /// `additional_chat_templates/tool_use.jinja`. Other files are ignored. Messages call the directory `name`.
    ///
    /// # Errors
    /// [`Error::Format`] and [`Error::Unsupported`] for the files' content, and any error of their sources.
    pub async fn safetensors(name: impl Into<String>, files: Files) -> Result<Self> {
        let name = name.into();
        let metadata = HuggingFaceMetadata::read(&name, &files).await?;
        let weights = hugging_face::read_weights(&name, files).await?;
        Ok(Self {
            name,
            parts: weights.parts,
            tensors: weights.tensors.into_iter().map(|(name, info)| (hugging_face::own_name(&name), info)).collect(),
            metadata: Metadata::HuggingFace(Box::new(metadata)),
            unread: by_name(weights.unread),
        })
    }

    /// Whether both have the same weights, byte for byte, so that KV of one serves the other. Reads both up to the
    /// first difference.
    #[doc(hidden)]
    pub async fn has_the_weights_of(&self, other: &Self) -> Result<bool> {
        let lengths = |checkpoint: &Self| checkpoint.parts.iter().map(|part| part.len()).collect::<Vec<_>>();
        if self.tensors != other.tensors || lengths(self) != lengths(other) {
            return Ok(false);
        }
        const PIECE: u64 = 1 << 20;
        let (mut a, mut b) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
        for (one, two) in self.parts.iter().zip(&other.parts) {
            for offset in (0..one.len()).step_by(PIECE as usize) {
                let bytes = PIECE.min(one.len() - offset) as usize;
                one.read(offset, &mut a[..bytes]).await?;
                two.read(offset, &mut b[..bytes]).await?;
                if a[..bytes] != b[..bytes] {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The conventions that it follows.
    #[doc(hidden)]
    pub fn kind(&self) -> Kind {
        match self.metadata {
            Metadata::Gguf(_) => Kind::Gguf,
            Metadata::HuggingFace(_) => Kind::HuggingFace,
        }
    }

    /// Tensors of unsupported types: the name of the type, and the number of elements.
    #[doc(hidden)]
    pub fn unread(&self) -> impl Iterator<Item = (&str, u64)> {
        self.unread.values().map(|tensor| (tensor.format.as_str(), tensor.elements))
    }

    /// The names of all tensors: first the readable ones, then the others, each in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().chain(self.unread.keys()).map(String::as_str)
    }

    /// The tensor of this name, if there is one; [`Error::Unsupported`] if its type is unsupported.
    #[doc(hidden)]
    pub fn find(&self, name: &str) -> Result<Option<&TensorInfo>> {
        match self.unread.get(name) {
            None => Ok(self.tensors.get(name)),
            Some(Unread { format, .. }) => Err(Error::Unsupported {
                file: self.name.clone(),
                what: format!("type {format} of tensor {name}"),
                fix: match self.kind() {
                    Kind::Gguf => format!("take a file whose tensors are {}", Format::ALL.map(Format::name).join(", ")),
                    Kind::HuggingFace => "convert the weights to F32, F16 or BF16".to_owned(),
                },
            }),
        }
    }

    /// The checkpoint's chat template, wherever its files keep it.
    #[doc(hidden)]
    pub fn chat_template(&self) -> Result<Option<&str>> {
        const KEY: &str = "chat_template";
        match &self.metadata {
            Metadata::Gguf(metadata) => metadata.str("tokenizer.chat_template"),
            Metadata::HuggingFace(files) => {
                if let Some(text) = &files.chat_template {
                    return Ok(Some(text));
                }
                let Some(config) = &files.tokenizer_config else { return Ok(None) };
                // Either one template, or a list of named ones. In a list it is the one named "default".
                let Some(list) = config.get(KEY).and_then(|value| value.as_array()) else { return config.str(KEY) };
                let default = list.iter().find(|entry| entry["name"] == "default");
                Ok(default.and_then(|entry| entry["template"].as_str()))
            }
        }
    }

    /// The bytes of rows `rows` of a tensor of this checkpoint, as stored in the file.
    #[doc(hidden)]
    pub async fn read_rows(&self, tensor: &TensorInfo, rows: Range<usize>) -> Result<Vec<u8>> {
        if rows.start > rows.end || rows.end > tensor.rows() {
            return Err(Error::Tensor {
                file: self.name.clone(),
                name: tensor.name.clone(),
                expected: format!("rows {} to {}", rows.start, rows.end),
                found: format!("{} rows", tensor.rows()),
            });
        }
        let row_bytes = tensor.row_bytes();
        let bytes = rows.len().checked_mul(row_bytes).ok_or_else(|| Error::Tensor {
            file: self.name.clone(),
            name: tensor.name.clone(),
            expected: format!("rows that fit in memory, {} bits of address", usize::BITS),
            found: format!("{} rows of {row_bytes} bytes", rows.len()),
        })?;
        let mut out = vec![0; bytes];
        self.parts[tensor.part].read(tensor.offset + rows.start as u64 * row_bytes as u64, &mut out).await?;
        Ok(out)
    }

    /// A whole tensor as f32, for small ones such as norms and biases.
    #[doc(hidden)]
    pub async fn read_f32(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let raw = self.read_rows(tensor, 0..tensor.rows()).await?;
        let mut out = vec![0.0; raw.len() / tensor.format.block_bytes() * tensor.format.block()];
        tensor.format.dequantize(&raw, &mut out);
        Ok(out)
    }
}

fn by_name(unread: Vec<Unread>) -> BTreeMap<String, Unread> {
    unread.into_iter().map(|tensor| (hugging_face::own_name(&tensor.name), tensor)).collect()
}

/// Checks a shape, slowest dimension first, and returns the bytes that it takes in a file, or what is wrong with it.
/// Rows must consist of whole blocks, and the bytes of a row must fit a `usize`, in the file and as f32; those of the
/// whole tensor may exceed it.
pub(super) fn check_shape(sizes: &[u64], format: Format) -> Result<(Vec<usize>, u64), String> {
    if sizes.contains(&0) {
        return Err("a size is 0".to_owned());
    }
    let (&cols, leading) = sizes.split_last().ok_or("no sizes")?;
    let (block, block_bytes) = (format.block() as u64, format.block_bytes() as u64);
    if !cols.is_multiple_of(block) {
        return Err(format!("rows of {cols} elements, not a multiple of the {block} in a block of {format}"));
    }
    let counted = || {
        let rows = leading.iter().try_fold(1_u64, |rows, &size| rows.checked_mul(size))?;
        let row_bytes = (cols / block).checked_mul(block_bytes)?;
        [rows, row_bytes, cols.checked_mul(4)?]
            .into_iter()
            .try_for_each(|count| usize::try_from(count).ok().map(drop))?;
        let shape = sizes.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
        Some((shape, rows.checked_mul(row_bytes)?))
    };
    counted().ok_or_else(|| "more elements than can be counted".to_owned())
}

/// Checks that the tensors of a file lie inside it and do not overlap. O(n log n), because of sorting.
pub(super) fn check_layout<'a>(file: &str, len: u64, tensors: impl Iterator<Item = &'a TensorInfo>) -> Result<()> {
    let fail = |tensor: &TensorInfo, problem, fix| {
        Err(Error::Format { file: file.to_owned(), field: format!("tensor {}", tensor.name), problem, fix })
    };
    let mut sorted: Vec<_> = tensors.collect();
    sorted.sort_unstable_by_key(|tensor| tensor.offset);
    let mut covered: Option<(u64, &TensorInfo)> = None;
    for tensor in sorted {
        let end = tensor.offset.saturating_add(tensor.bytes);
        if end > len {
            return fail(tensor, format!("its data end at byte {end}, but the file has {len}"), TRUNCATED);
        }
        match covered {
            Some((before, other)) if tensor.offset < before => {
                let problem = format!("its data overlap those of tensor {}", other.name);
                return fail(tensor, problem, DAMAGED);
            }
            _ => covered = Some((end, tensor)),
        }
    }
    Ok(())
}
