//! Writes safetensors files in memory with a given header.

use std::{borrow::Cow, collections::BTreeMap};

use headstart::weights::{ByteSource, Files, MemorySource};
use safetensors::{Dtype, View};

/// A file with this header and these data, whether or not they fit.
pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// A well-formed file as the `safetensors` crate writes it.
pub fn write(tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)]) -> Vec<u8> {
    struct Borrowed<'a>(&'a [usize], Dtype, &'a [u8]);
    impl View for Borrowed<'_> {
        fn dtype(&self) -> Dtype {
            self.1
        }
        fn shape(&self) -> &[usize] {
            self.0
        }
        fn data(&self) -> Cow<'_, [u8]> {
            self.2.into()
        }
        fn data_len(&self) -> usize {
            self.2.len()
        }
    }
    let views = tensors.iter().map(|(name, shape, dtype, data)| (name, Borrowed(shape, *dtype, data)));
    safetensors::serialize(views, None).expect("the tensors fit their shapes")
}

/// The files of a directory in memory; error messages call each `dir/NAME`.
pub type Directory = BTreeMap<String, Vec<u8>>;

pub fn sources(directory: &Directory) -> Files {
    let source = |(name, bytes): (&String, &Vec<u8>)| -> (String, Box<dyn ByteSource>) {
        (name.clone(), Box::new(MemorySource::new(format!("dir/{name}"), bytes.clone())))
    };
    directory.iter().map(source).collect()
}
