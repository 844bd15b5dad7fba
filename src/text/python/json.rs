//! `json.dumps` as the `tojson` filter of transformers calls it.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{MAX_DEPTH, number};

/// The `tojson` filter, with `indent`, `separators`, `sort_keys` and `ensure_ascii` of `json.dumps`.
pub(in crate::text) fn tojson(
    state: &State,
    value: &Value,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = match indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators must be two strings")),
    };
    let mut json = Json {
        state,
        out: String::new(),
        paid: 0,
        indent,
        item,
        key,
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    json.write(value, 0)?;
    json.room(0)?;
    Ok(Value::from(json.out))
}

struct Json<'a> {
    state: &'a State<'a, 'a>,
    out: String,
    /// Bytes of `out` for which fuel has been paid.
    paid: usize,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
    ascii: bool,
}

impl Json<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is nested too deeply"));
        }
        self.state.consume_fuel(1)?;
        self.room(value.as_str().map_or(0, str::len))?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value, ["NaN", "Infinity"])),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list('[', ']', depth, &items, |json, item| json.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.list('{', '}', depth, &keys, |json, key| {
                    match key.as_str() {
                        Some(text) => json.string(text),
                        None => write!(json.out, "\"{key}\"").unwrap_or_default(),
                    }
                    json.out.push_str(&json.key);
                    json.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is not JSON"))),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: &[Value],
        mut each: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            self.room(self.item.len() + self.key.len())?;
            if index > 0 {
                self.out.push_str(&self.item);
            }
            self.new_line(depth + 1)?;
            each(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Pays fuel for what has been written and for `more` bytes.
    fn room(&mut self, more: usize) -> Result<(), Error> {
        let due = self.out.len().saturating_add(more).saturating_sub(self.paid);
        if due >= 64 {
            self.state.consume_fuel(due as u64 / 64)?;
            self.paid += due / 64 * 64;
        }
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = self.indent.as_ref().map(String::len) else { return Ok(()) };
        self.room(indent.saturating_mul(depth))?;
        let indent = self.indent.as_deref().unwrap_or_default();
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(indent, depth));
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").unwrap_or_default();
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
