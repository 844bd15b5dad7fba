//! The one error type: every variant carries the fields a person needs to act, and `Display` is one sentence that
//! says what is wrong, where, and what to do.

use std::path::PathBuf;
use std::sync::Arc;

/// What everything here that can fail returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong; `Display` is one sentence for a person.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file or directory that the system refused to open, read or write.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// The system's error; its kind chooses the remedy that the sentence ends with.
        source: Arc<std::io::Error>,
    },

    /// A file that is not what it claims to be.
    #[error("{file}: {field}: {problem}; {fix}")]
    Format {
        /// As it was opened: a path, a name or an address.
        file: String,
        /// The place in it: a key, a tensor, a range of bytes.
        field: String,
        /// What is wrong there.
        problem: String,
        /// What the person should do about it.
        fix: &'static str,
    },

    /// A tensor whose name, shape or type is not what the model needs.
    #[error("{file}: tensor {name}: expected {expected}, found {found}; the file does not fit its own configuration")]
    Tensor {
        /// The checkpoint that holds it.
        file: String,
        /// As the checkpoint calls it.
        name: String,
        /// What the configuration asks for, mostly a shape.
        expected: String,
        /// What is there; `none` for a tensor that is missing.
        found: String,
    },

    /// A model, tensor type or feature this version does not run.
    #[error("{file}: {what} is not supported; {fix}")]
    Unsupported {
        /// As it was opened.
        file: String,
        /// What it asks for.
        what: String,
        /// What would run instead.
        fix: String,
    },

    /// Logits that no token can be chosen from: weights that are damaged, or a GPU that computes wrongly.
    #[error(
        "{model}: the model gave logits that are not finite (NaN or infinity) behind token {position}; take a fresh copy of the \
         file, or another file of the model, and if that gives them too, try another GPU driver"
    )]
    Logits {
        /// The name of the checkpoint.
        model: String,
        /// The last token before them, counted from 0 at the start of the prompt.
        position: usize,
    },

    /// A request the engine refuses before it runs.
    #[error("{field}: {problem}")]
    Request {
        /// As OpenAI's API names it, where it has it.
        field: &'static str,
        /// What is wrong with it, to be read after its name.
        problem: String,
    },

    /// No adapter fits, or it gave no device.
    #[error(
        "no usable GPU adapter: {problem}; install a Vulkan, Metal or DirectX 12 driver (on Linux without a GPU: mesa-vulkan-drivers)"
    )]
    NoAdapter {
        /// The driver's words, or which adapter was asked for in vain.
        problem: String,
    },

    /// An allocation that the device refuses, or that is beyond its limits.
    #[error("the GPU has too little memory for {what}: {needed} bytes asked, at most {available} allowed; {fix}")]
    GpuMemory {
        /// What it was for.
        what: String,
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes of the largest buffer there can be; 0 where the driver does not say.
        available: u64,
        /// What takes less.
        fix: &'static str,
    },

    /// The device refused work.
    #[error("GPU: {problem}")]
    Gpu {
        /// What happened, in the driver's words where it has any.
        problem: String,
    },

    /// The device is gone, and all that was on it. A new engine on the same files takes its place.
    #[error("the GPU was lost ({problem}); load the model again")]
    DeviceLost {
        /// The driver's reason.
        problem: String,
    },

    /// A kernel that does not compile on this driver.
    #[error("shader {name}: {problem}")]
    Shader {
        /// The kernel with its definitions, or the file of the shader.
        name: String,
        /// The compiler's words.
        problem: String,
    },

    /// A chat template that is missing, does not compile or refuses the messages.
    #[error("chat template: {problem}")]
    Template {
        /// What it refuses or where it is wrong, with the line.
        problem: String,
    },

    /// A text that the tokenizer cannot encode, or a vocabulary that makes no tokenizer.
    #[error("tokenizer: {problem}")]
    Tokenizer {
        /// What failed, and why.
        problem: String,
    },

    /// A prefix pack that is refused, or that cannot be made.
    #[error("{pack}: {problem}")]
    Pack {
        /// Its own name, or its file.
        pack: String,
        /// The first thing that does not fit.
        problem: String,
    },

    /// A place that KV is kept in and that did not do what was asked of it.
    #[error("{store}: {problem}")]
    Store {
        /// Its label, or where it is.
        store: String,
        /// What was asked, and why it was not done.
        problem: String,
    },

    /// Work that a person ended before its time. What it had computed is not lost.
    #[error("interrupted")]
    Interrupted,

    /// A download that failed: the address, what went wrong and what to do.
    #[error("{url}: {problem}; {fix}")]
    Download {
        /// The address asked.
        url: String,
        /// What the server or the network said.
        problem: String,
        /// What the person should do about it.
        fix: String,
    },
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
    /// What the system said of a file or directory.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}
