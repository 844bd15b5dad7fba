//! Typed access to a checkpoint's metadata, the same for GGUF and JSON. A getter returns `None` for a missing field.
//! For a field of the wrong type it returns an error that names the file, the field, the expected type and the type
//! found.

use crate::error::{Error, Result};

/// A field's value, as far as the getters of [`Fields`] distinguish values.
pub enum Field<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Str(&'a str),
    /// A value that is not a scalar, by the name of its kind.
    Other(&'static str),
}

impl Field<'_> {
    fn describe(&self) -> String {
        match self {
            Field::Unsigned(x) => x.to_string(),
            Field::Signed(x) => x.to_string(),
            Field::Float(x) => format!("{x:?}"),
            Field::Bool(x) => x.to_string(),
            Field::Str(x) if x.chars().count() > 40 => format!("{:?}…", x.chars().take(40).collect::<String>()),
            Field::Str(x) => format!("{x:?}"),
            Field::Other(kind) => format!("{kind} value"),
        }
    }
}

/// Fields by key, and getters that check their types.
pub trait Fields {
    /// The file, as messages name it.
    fn file(&self) -> &str;

    /// The value of `key`; `None` if it is missing or a JSON null.
    fn lookup(&self, key: &str) -> Option<Field<'_>>;

    fn u64(&self, key: &str) -> Result<Option<u64>> {
        match self.lookup(key) {
            None => Ok(None),
            Some(Field::Unsigned(x)) => Ok(Some(x)),
            Some(Field::Signed(x)) if x >= 0 => Ok(Some(x as u64)),
            Some(other) => Err(self.wrong_type(key, "an integer that is not negative", &other)),
        }
    }

    fn u32(&self, key: &str) -> Result<Option<u32>> {
        let narrow = |x: u64| u32::try_from(x).map_err(|_| self.wrong(key, format!("{x} is more than 32 bits hold")));
        self.u64(key)?.map(narrow).transpose()
    }

    /// A token's id. A number outside 0 to `vocab - 1` says that the model has no such token.
    fn id(&self, key: &str, vocab: usize) -> Result<Option<u32>> {
        match self.lookup(key) {
            None | Some(Field::Signed(i64::MIN..0)) => Ok(None),
            Some(Field::Unsigned(_) | Field::Signed(_)) => {
                Ok(self.u64(key)?.filter(|&id| id < vocab as u64).map(|id| id as u32))
            }
            Some(other) => Err(self.wrong_type(key, "a token's id", &other)),
        }
    }

    /// A finite number; integers are accepted.
    fn f64(&self, key: &str) -> Result<Option<f64>> {
        match self.lookup(key) {
            None => Ok(None),
            Some(Field::Float(x)) if x.is_finite() => Ok(Some(x)),
            Some(Field::Unsigned(x)) => Ok(Some(x as f64)),
            Some(Field::Signed(x)) => Ok(Some(x as f64)),
            Some(other) => Err(self.wrong_type(key, "a finite number", &other)),
        }
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.lookup(key) {
            None => Ok(None),
            Some(Field::Bool(x)) => Ok(Some(x)),
            Some(other) => Err(self.wrong_type(key, "true or false", &other)),
        }
    }

    fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.lookup(key) {
            None => Ok(None),
            Some(Field::Str(x)) => Ok(Some(x)),
            Some(other) => Err(self.wrong_type(key, "a string", &other)),
        }
    }

    /// Unwraps the result of a getter for a required field: `required(key, fields.u32(key)?)`.
    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T>
    where
        Self: Sized,
    {
        value.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        self.wrong(key, "the field is missing".to_owned())
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &Field<'_>) -> Error {
        self.wrong(key, format!("expected {expected}, found {}", found.describe()))
    }

    /// The error for a field with an unusable value.
    fn wrong(&self, key: &str, problem: String) -> Error {
        Error::Format {
            file: self.file().to_owned(),
            field: key.to_owned(),
            problem,
            fix: "take a fresh copy of the file, or convert the model again",
        }
    }
}
