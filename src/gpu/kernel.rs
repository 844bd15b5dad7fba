//! A kernel: one shader file with the numbers and switches of one permutation.

/// How a kernel uses a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    Read,
    ReadWrite,
}

/// One permutation of one shader. Two equal values are the same pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Name of the `.wgsl` file, and the label in every profile.
    pub name: &'static str,
    /// Preprocessor definitions: numbers for `${NAME}` and `#for`, switches for `#if`.
    pub defines: Vec<(&'static str, u32)>,
    /// Bindings 0, 1, … of group 0.
    pub bindings: &'static [Access],
}

impl Kernel {
    /// `name{A=1,B=2}`, for errors and profiles.
    pub fn label(&self) -> String {
        let defines: Vec<String> = self.defines.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!("{}{{{}}}", self.name, defines.join(","))
    }
}
