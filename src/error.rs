//! The one error type: every variant carries the fields a person needs to act, and `Display` is one sentence that
//! says what is wrong, where, and what to do.
//!
//! Paths, names in files, and what a template or a server says come from outside. `visible` escapes them before they
//! are shown.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. `Display` is one sentence for a person; control characters in it are escaped, except line ends.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file or directory that the system refused to open, read or write.
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// The system's error; its kind chooses the remedy that the sentence ends with.
        source: Arc<std::io::Error>,
    },

    /// A file that is not what it claims to be.
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
    Unsupported {
        /// As it was opened.
        file: String,
        /// What it asks for.
        what: String,
        /// What would run instead.
        fix: String,
    },

    /// Logits that are not finite, so that no token can be chosen: the weights are damaged, or the GPU computes wrong
    /// results.
    Logits {
        /// The name of the checkpoint.
        model: String,
        /// The last token before them, counted from 0 at the start of the prompt.
        position: usize,
    },

    /// A request the engine refuses before it runs.
    Request {
        /// As OpenAI's API names it, where it has it.
        field: &'static str,
        /// What is wrong with it, to be read after its name.
        problem: String,
    },

    /// A prompt that leaves no room for an answer in the context.
    Context {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that a prompt and its answer may hold together.
        context: usize,
        /// The longest context that the model can be loaded with.
        most: usize,
    },

    /// A request with a field that is not known.
    UnknownField {
        /// As the request has it.
        name: String,
        /// That it is not, and which may be meant, to be read after its name.
        problem: String,
    },

    /// No adapter fits, or it gave no device.
    NoAdapter {
        /// The driver's message, or the adapter that was requested and not found.
        problem: String,
    },

    /// An allocation that the device refuses, or that is beyond its limits.
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
    Gpu {
        /// What happened, in the driver's words where it has any.
        problem: String,
    },

    /// The device is lost with everything on it. Loading the model again gives a new engine.
    DeviceLost {
        /// The driver's reason.
        problem: String,
    },

    /// A kernel that does not compile on this driver.
    Shader {
        /// The kernel with its definitions, or the file of the shader.
        name: String,
        /// The compiler's words.
        problem: String,
    },

    /// A chat template that is missing, does not compile or refuses the messages.
    Template {
        /// What it refuses or where it is wrong, with the line.
        problem: String,
    },

    /// A text that the tokenizer cannot encode, or a vocabulary that makes no tokenizer.
    Tokenizer {
        /// What failed, and why.
        problem: String,
    },

    /// A prefix pack that is refused, or that cannot be made.
    Pack {
        /// Its own name, or its file.
        pack: String,
        /// The first thing that does not fit.
        problem: String,
    },

    /// A KV store operation failed.
    Store {
        /// Its label, or where it is.
        store: String,
        /// The operation, and why it failed.
        problem: String,
    },

    /// A person interrupted the work. What was computed by then is kept.
    Interrupted,

    /// A download that failed: the address, what went wrong and what to do.
    Download {
        /// The address asked.
        url: String,
        /// What the server or the network said.
        problem: String,
        /// What the person should do about it.
        fix: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Visible { out: f, lines: true };
        match self {
            Self::Io { path, source } => write!(f, "{}: {}{}", path.display(), reason(source), remedy(source)),
            Self::Format { file, field, problem, fix } => write!(f, "{file}: {field}: {problem}; {fix}"),
            Self::Tensor { file, name, expected, found } => write!(
                f,
                "{file}: tensor {name}: expected {expected}, found {found}; the file does not fit its own configuration"
            ),
            Self::Unsupported { file, what, fix } => write!(f, "{file}: {what} is not supported; {fix}"),
            Self::Logits { model, position } => write!(
                f,
                "{model}: the model gave logits that are not finite (NaN or infinity) behind token {position}; take a fresh \
                 copy of the file, or another file of the model, and if that gives them too, try another GPU driver"
            ),
            Self::Request { field, problem } => write!(f, "{field}: {problem}"),
            Self::Context { tokens, context, most } => {
                write!(
                    f,
                    "prompt: has {tokens} tokens and the context holds {context}, the answer included; shorten it (of a \
                     conversation, drop the oldest messages)"
                )?;
                match context < most {
                    true => write!(f, ", or load the model with a longer context (--context), up to {most}"),
                    false => Ok(()),
                }
            }
            Self::UnknownField { name, problem } => write!(f, "{}: {problem}", visible(name)),
            Self::NoAdapter { problem } => write!(
                f,
                "no usable GPU adapter: {problem}; install a Vulkan, Metal or DirectX 12 driver (on Linux without a GPU: \
                 mesa-vulkan-drivers)"
            ),
            Self::GpuMemory { what, needed, available, fix } => write!(
                f,
                "the GPU has too little memory for {what}: {needed} bytes asked, at most {available} allowed; {fix}"
            ),
            Self::Gpu { problem } => write!(f, "GPU: {problem}"),
            Self::DeviceLost { problem } => write!(f, "the GPU was lost ({problem}); load the model again"),
            Self::Shader { name, problem } => write!(f, "shader {name}: {problem}"),
            Self::Template { problem } => write!(f, "chat template: {problem}"),
            Self::Tokenizer { problem } => write!(f, "tokenizer: {problem}"),
            Self::Pack { pack, problem } => write!(f, "{pack}: {problem}"),
            Self::Store { store, problem } => write!(f, "{store}: {problem}"),
            Self::Interrupted => write!(f, "interrupted"),
            Self::Download { url, problem, fix } => write!(f, "{url}: {problem}; {fix}"),
        }
    }
}

/// What the system says, without the number of its error.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((reason, _)) if error.raw_os_error().is_some() => reason.to_owned(),
        _ => text,
    }
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
    /// An I/O error with the path that it concerns.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}

/// Whether a terminal does more with a character than show it: control characters, bidirectional overrides, and line
/// and paragraph separators.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text from outside as one line, with control characters escaped as Rust escapes them.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, false)
}

/// Text from outside in quotes, as Rust escapes it; marks and joiners stay where they belong to the letter or picture before them.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    let mut before: Option<char> = None;
    for c in text.chars() {
        let joins = matches!(c, '\u{200c}' | '\u{200d}') && before.is_some_and(|c| !c.is_ascii());
        let belongs = joins || (before.is_some() && is_mark(c));
        match belongs || c == '\'' {
            true => shown.push(c),
            false => shown.extend(c.escape_debug()),
        }
        before = (belongs || (c.escape_debug().eq([c]) && !c.is_whitespace())).then_some(c);
    }
    shown + "\""
}

/// Whether Rust escapes a character by itself, and not behind a letter, to which it then belongs.
fn is_mark(c: char) -> bool {
    !c.escape_debug().eq([c]) && ['a', c].iter().collect::<String>().escape_debug().eq(['a', c])
}

/// The same for text of several lines: line ends and tabs stay.
#[cfg(feature = "cli")]
pub(crate) fn visible_lines(text: &str) -> String {
    escaped(text, true)
}

fn escaped(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    // Writing to a string cannot fail.
    let _ = Visible { out: &mut shown, lines }.write_str(text);
    shown
}

/// Writes what it is given with control characters as escapes.
pub(crate) struct Visible<'a, W> {
    pub(crate) out: &'a mut W,
    /// Whether the ends of lines and tabs stay.
    pub(crate) lines: bool,
}

impl<W: Write> Write for Visible<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let hidden = |c: char| is_control(c) && !(self.lines && matches!(c, '\n' | '\t'));
        let mut rest = text;
        while let Some(at) = rest.find(hidden) {
            let (plain, from) = rest.split_at(at);
            let mut chars = from.chars();
            self.out.write_str(plain)?;
            chars.next().map_or(Ok(()), |c| write!(self.out, "{}", c.escape_debug()))?;
            rest = chars.as_str();
        }
        self.out.write_str(rest)
    }
}
