//! Inserts filters into a template's source that pass the values it compares, indexes by and builds through `weigh`.
//!
//! In an expression `a == b` becomes `(a)|weighed == (b)|weighed`, `a[b]` becomes `a[(b)|weighed]`, and a list, dict or tuple
//! such as `[a, b]` becomes `([a, b]|kept)`. Literals stay as they are. Source that it does not understand is left unchanged,
//! for the parser to report.

use super::source::token;

/// Brackets nested deeper are copied unchanged; `limits` has refused them already.
const MAX_DEPTH: usize = 128;

/// Inserts the filters into an expression.
pub(super) fn expression(text: &str) -> String {
    let (mut open, mut level, mut rest) = (Vec::new(), Level::default(), text);
    while !rest.is_empty() {
        let token = token(rest);
        let behind = rest;
        rest = &rest[token.len()..];
        match token {
            "(" | "[" | "{" if open.len() < MAX_DEPTH => {
                let bracket = match (token, level.complete) {
                    ("(", true) => Bracket::Call,
                    ("[", true) => Bracket::Index,
                    ("(", false) => Bracket::Group,
                    ("[", false) => Bracket::List,
                    _ => Bracket::Dict,
                };
                open.push(std::mem::replace(&mut level, Level { bracket, ..Level::default() }));
            }
            ")" | "]" | "}" if !open.is_empty() => {
                let inner = std::mem::replace(&mut level, open.pop().unwrap_or_default());
                level.close(inner);
            }
            "," | ":" => level.separate(token),
            "=" | "!" | "<" | ">" if rest.starts_with('=') || matches!(token, "<" | ">") => {
                let length = token.len() + usize::from(rest.starts_with('='));
                rest = &behind[length..];
                level.compare(&behind[..length]);
            }
            "=" => level.delimit(token),
            "and" | "or" | "if" | "elif" | "else" | "recursive" if level.last != "." => level.delimit(token),
            "not" if level.last == "is" => level.push(token),
            "not" => {
                let space = rest.len() - rest.trim_start().len();
                let next = self::token(rest.trim_start());
                match level.complete && next == "in" {
                    true => {
                        let length = token.len() + space + next.len();
                        rest = &behind[length..];
                        level.compare(&behind[..length]);
                    }
                    false => level.delimit(token),
                }
            }
            "in" if !matches!(level.last, "is" | "not" | ".") => level.compare(token),
            _ => level.push(token),
        }
    }
    while let Some(outer) = open.pop() {
        let inner = std::mem::replace(&mut level, outer);
        let end = inner.end();
        level.operand.push_str(&end);
    }
    level.end()
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Bracket {
    #[default]
    None,
    Call,
    Index,
    Group,
    List,
    Dict,
}

/// One level of brackets, as far as it has been read.
#[derive(Default)]
struct Level<'a> {
    bracket: Bracket,
    before: String,
    /// The left side of a comparison, and its operator.
    left: Option<(String, &'a str)>,
    operand: String,
    /// The last token that is not white space.
    last: &'a str,
    /// Whether the operand can be called and indexed.
    complete: bool,
    /// Whether the operand contains anything but literals.
    varies: bool,
    commas: bool,
    colons: bool,
    /// Whether the operand is a sum or a product. minijinja joins the lists of one lazily, on iteration.
    sums: bool,
}

impl<'a> Level<'a> {
    fn push(&mut self, token: &'a str) {
        self.operand.push_str(token);
        if token.trim().is_empty() {
            return;
        }
        let word = token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let text = token.starts_with(['"', '\'']);
        self.complete = (word || text) && !matches!(token, "is" | "not" | "in");
        self.varies |= !(is_literal(token) || matches!(token, "+" | "-"));
        self.sums |= matches!(token, "+" | "*");
        self.last = token;
    }

    /// Ends an operand, and the comparison of which it is the right side.
    fn flush(&mut self) {
        let mut right = std::mem::take(&mut self.operand);
        // An argument may outlive the expression that creates it.
        if std::mem::take(&mut self.sums)
            && self.left.is_none()
            && matches!(self.bracket, Bracket::Call | Bracket::Group)
        {
            right = filtered(&right, "kept");
        }
        match self.left.take() {
            Some((left, sign)) => {
                let (left, right) = sides(&left, sign, &right);
                self.before.push_str(&(left + sign + &right));
            }
            None => self.before.push_str(&right),
        }
        self.complete = false;
    }

    fn delimit(&mut self, token: &'a str) {
        self.flush();
        self.before.push_str(token);
        self.last = token;
    }

    fn separate(&mut self, token: &'a str) {
        // A dict key is used for look-up.
        if token == ":" && self.bracket == Bracket::Dict && self.left.is_none() {
            self.operand = weighed(&self.operand);
        }
        (self.commas, self.colons) = (self.commas || token == ",", self.colons || token == ":");
        self.delimit(token);
    }

    fn compare(&mut self, sign: &'a str) {
        // In a chained comparison the middle operand is compared twice.
        if self.left.is_some() {
            self.operand = weighed(&self.operand);
            self.flush();
            self.before.push_str(sign);
        } else {
            self.left = Some((std::mem::take(&mut self.operand), sign));
        }
        (self.last, self.complete, self.varies) = (sign, false, true);
    }

    fn close(&mut self, inner: Level<'_>) {
        let (bracket, varies) = (inner.bracket, inner.varies);
        let tuple = bracket == Bracket::Group && inner.commas;
        let slice = inner.colons;
        let inner = inner.end();
        self.operand.push_str(&match bracket {
            Bracket::None | Bracket::Call => format!("({inner})"),
            Bracket::Index if slice => format!("[{inner}]"),
            Bracket::Index => format!("[{}]", indexed(&inner)),
            Bracket::Group if tuple && varies => format!("(({inner})|kept)"),
            Bracket::Group => format!("({inner})"),
            Bracket::List if varies => format!("([{inner}]|kept)"),
            Bracket::List => format!("[{inner}]"),
            Bracket::Dict if varies => format!("({{{inner}}}|kept)"),
            Bracket::Dict => format!("{{{inner}}}"),
        });
        self.varies |= varies || matches!(bracket, Bracket::Call | Bracket::Index);
        (self.complete, self.last) = (true, ")");
    }

    fn end(mut self) -> String {
        self.flush();
        self.before
    }
}

/// Both sides of a comparison, weighed unless a literal makes the comparison short.
fn sides(left: &str, sign: &str, right: &str) -> (String, String) {
    let literal = |side: &str| is_literal(side.trim());
    let among = |side: &str| side.trim().starts_with('[') && side.trim().ends_with(']') && !side.contains("|kept");
    let short = match sign.ends_with("in") {
        true => among(right) || literal(left),
        false => literal(left) || literal(right),
    };
    if short { (left.to_owned(), right.to_owned()) } else { (weighed(left), weighed(right)) }
}

/// Weighs an index unless it is a string literal.
fn indexed(key: &str) -> String {
    if key.trim().starts_with(['"', '\'']) && is_literal(key.trim()) { key.to_owned() } else { weighed(key) }
}

fn weighed(operand: &str) -> String {
    filtered(operand, "weighed")
}

/// Applies a filter to an operand, unless it is a string literal.
fn filtered(operand: &str, filter: &str) -> String {
    let inner = operand.trim();
    if inner.is_empty() || inner.starts_with(['"', '\'']) && is_literal(inner) {
        return operand.to_owned();
    }
    let start = operand.len() - operand.trim_start().len();
    format!("{}({inner})|{filter}{}", &operand[..start], &operand[start + inner.len()..])
}

/// Whether the text is one string, number or constant.
fn is_literal(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let first = text.chars().next().unwrap_or(' ');
    let constant = matches!(text, "true" | "false" | "none" | "True" | "False" | "None");
    let digits = first.is_ascii_digit() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    constant || digits || matches!(first, '"' | '\'') && token(text).len() == text.len()
}

/// The rewritten body of a tag without output. `set` and `with` pass their values through `kept`.
pub(super) fn statement(word: &str, body: &str) -> String {
    match word {
        "set" => kept(body),
        "with" => {
            let mut parts = split(body, ",").into_iter();
            let first = parts.next().map(kept).unwrap_or_default();
            parts.fold(first, |body, part| body + "," + &kept(part))
        }
        "macro" | "block" | "filter" | "import" | "from" | "autoescape" => body.to_owned(),
        _ => expression(body),
    }
}

/// Rewrites `name = value` so that the value passes through `kept`, or `held` for a field.
fn kept(assignment: &str) -> String {
    let sides = split(assignment, "=");
    let [target, ..] = sides.as_slice() else { return expression(assignment) };
    let Some(value) = assignment.get(target.len() + 1..).filter(|_| sides.len() > 1) else {
        return expression(assignment);
    };
    let filter = if target.contains('.') { "held" } else { "kept" };
    match is_literal(value.trim()) {
        true => assignment.to_owned(),
        false => format!("{target}= ({})|{filter} ", expression(value).trim()),
    }
}

/// Splits a text at `sign`, outside brackets.
fn split<'a>(text: &'a str, sign: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut at, mut depth) = (Vec::new(), 0, 0, 0_usize);
    while at < text.len() {
        let token = token(&text[at..]);
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ if token == sign && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + token.len();
            }
            _ => {}
        }
        at += token.len();
    }
    parts.push(&text[start..]);
    parts
}
