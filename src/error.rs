//! The one error type: every variant carries the fields a person needs to act, and `Display` is one sentence that
//! says what is wrong, where, and what to do.

use std::path::PathBuf;
use std::sync::Arc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io { path: PathBuf, source: Arc<std::io::Error> },

    /// A file that is not what it claims to be. `fix` is what the person should do about it.
    #[error("{file}: {field}: {problem}; {fix}")]
    Format { file: String, field: String, problem: String, fix: &'static str },

    /// A tensor whose name, shape or type is not what the model needs.
    #[error("{file}: tensor {name}: expected {expected}, found {found}; the file does not fit its own configuration")]
    Tensor { file: String, name: String, expected: String, found: String },

    /// A model, tensor type or feature this version does not run.
    #[error("{file}: {what} is not supported; {fix}")]
    Unsupported { file: String, what: String, fix: String },

    /// Logits that no token can be chosen from: weights that are damaged, or a GPU that computes wrongly.
    #[error(
        "{model}: the model gave logits that are not finite (NaN or infinity) behind token {position}; take a fresh copy of the \
         file, or try another GPU driver"
    )]
    Logits { model: String, position: usize },

    /// A request the engine refuses before it runs.
    #[error("{field}: {problem}")]
    Request { field: &'static str, problem: String },

    #[error(
        "no usable GPU adapter: {problem}; install a Vulkan, Metal or DirectX 12 driver (on Linux without a GPU: mesa-vulkan-drivers)"
    )]
    NoAdapter { problem: String },

    #[error("the GPU has too little memory for {what}: {needed} bytes asked, at most {available} allowed; {fix}")]
    GpuMemory { what: String, needed: u64, available: u64, fix: &'static str },

    /// The device refused work.
    #[error("GPU: {problem}")]
    Gpu { problem: String },

    /// The device is gone, and all that was on it. A new engine on the same files takes its place.
    #[error("the GPU was lost ({problem}); load the model again")]
    DeviceLost { problem: String },

    #[error("shader {name}: {problem}")]
    Shader { name: String, problem: String },

    #[error("chat template: {problem}")]
    Template { problem: String },

    #[error("tokenizer: {problem}")]
    Tokenizer { problem: String },

    /// A prefix pack that is refused, or that cannot be made.
    #[error("{pack}: {problem}")]
    Pack { pack: String, problem: String },

    /// A place that KV is kept in and that did not do what was asked of it.
    #[error("{store}: {problem}")]
    Store { store: String, problem: String },

    /// Work that a person ended before its time. What it had computed is not lost.
    #[error("interrupted")]
    Interrupted,

    /// A download that failed: the address, what went wrong and what to do.
    #[error("{url}: {problem}; {fix}")]
    Download { url: String, problem: String, fix: String },
}

fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "; check the path",
        ErrorKind::PermissionDenied => "; check who may use it",
        ErrorKind::StorageFull => "; make room, or name another place",
        _ => "",
    }
}

impl Error {
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}
