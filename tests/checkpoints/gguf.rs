//! Writes GGUF files in memory, well formed, or broken by setting a field to a wrong value.

use headstart::quant::Format;

pub enum Meta {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// A type number, and the bytes that follow it unchanged.
    Raw(u32, Vec<u8>),
}

impl From<u32> for Meta {
    fn from(x: u32) -> Self {
        Meta::U32(x)
    }
}

impl From<f32> for Meta {
    fn from(x: f32) -> Self {
        Meta::F32(x)
    }
}

impl From<&str> for Meta {
    fn from(x: &str) -> Self {
        Meta::Str(x.to_owned())
    }
}

pub struct Tensor {
    pub name: String,
    /// Row-major, as in `TensorInfo::shape`; the file lists the fastest dimension first.
    pub shape: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
    /// Overrides the true offset of the data.
    pub offset: Option<u64>,
}

pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub alignment: u64,
    pub meta: Vec<(String, Meta)>,
    pub tensors: Vec<Tensor>,
    /// Overrides the true counts.
    pub tensor_count: Option<u64>,
    pub key_count: Option<u64>,
}

impl Default for Gguf {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            alignment: 32,
            meta: Vec::new(),
            tensors: Vec::new(),
            tensor_count: None,
            key_count: None,
        }
    }
}

impl Gguf {
    /// Adds a key, or replaces its value.
    pub fn set(&mut self, key: &str, value: impl Into<Meta>) -> &mut Self {
        self.remove(key);
        self.meta.push((key.to_owned(), value.into()));
        self
    }

    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.meta.retain(|(known, _)| known != key);
        self
    }

    pub fn tensor(&mut self, name: &str, shape: &[usize], format: Format, elements: &[f32]) -> &mut Self {
        let shape = shape.iter().map(|&size| size as u64).collect();
        let data = format.quantize(elements);
        self.tensors.push(Tensor { name: name.to_owned(), shape, kind: format.gguf(), data, offset: None });
        self
    }

    pub fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the builder has the tensor")
    }

    pub fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.meta.len() as u64).to_le_bytes());
        for (key, value) in &self.meta {
            out.extend(bytes_of(key));
            value.write(&mut out);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend(bytes_of(&tensor.name));
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().rev().flat_map(|size| size.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment as usize), 0);
        }
        out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        out.extend(data);
        out
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Meta::U8(x) => (0, vec![*x]),
            Meta::U32(x) => (4, x.to_le_bytes().to_vec()),
            Meta::I32(x) => (5, x.to_le_bytes().to_vec()),
            Meta::F32(x) => (6, x.to_le_bytes().to_vec()),
            Meta::Bool(x) => (7, vec![u8::from(*x)]),
            Meta::Str(x) => (8, bytes_of(x)),
            Meta::U64(x) => (10, x.to_le_bytes().to_vec()),
            Meta::F64(x) => (12, x.to_le_bytes().to_vec()),
            Meta::Strings(list) => (9, array(8, list.iter().map(|x| bytes_of(x)))),
            Meta::I32s(list) => (9, array(5, list.iter().map(|x| x.to_le_bytes().to_vec()))),
            Meta::F32s(list) => (9, array(6, list.iter().map(|x| x.to_le_bytes().to_vec()))),
            Meta::Raw(kind, bytes) => (*kind, bytes.clone()),
        };
        out.extend(u32::to_le_bytes(kind));
        out.extend(bytes);
    }
}

fn array(kind: u32, items: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend((items.len() as u64).to_le_bytes());
    items.for_each(|item| out.extend(item));
    out
}

fn bytes_of(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}
