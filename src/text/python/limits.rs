//! Limits on a template's source. The parser and the compiler recurse for each bracket, block and chained operator, and count
//! lines and columns in sixteen bits. Cost: one walk over each tag.

use super::source::token;

/// Nesting depth of brackets, and of blocks.
const MAX_BRACKETS: usize = 48;
const MAX_BLOCKS: usize = 48;
/// Branches of one `if`.
const MAX_BRANCHES: usize = 200;
/// Chained operators in one operand of a list or a call.
const MAX_CHAIN: usize = 400;
/// Products in one tag. Each may repeat the work of all inside it.
const MAX_REPEATS: usize = 12;
const MAX_MACROS: usize = 400;
const MAX_COLUMN: usize = 65_000;

const BLOCKS: [&str; 10] = ["if", "for", "macro", "call", "filter", "with", "block", "autoescape", "generation", "set"];

#[derive(Default)]
pub(super) struct Limits {
    /// The open blocks, each with its number of branches.
    blocks: Vec<usize>,
    macros: usize,
}

/// Checks that lines and columns fit their counters.
pub(super) fn lines(source: &str) -> Result<(), String> {
    let longest = source.split('\n').map(str::len).max().unwrap_or(0);
    match longest > MAX_COLUMN || source.split('\n').count() > MAX_COLUMN {
        true => Err(format!("a line of more than {MAX_COLUMN} bytes, or more lines than that")),
        false => Ok(()),
    }
}

impl Limits {
    /// Checks the next block tag, given its first word and its body.
    pub(super) fn block(&mut self, word: &str, body: &str) -> Result<(), String> {
        // A `set` with a value opens no block.
        let opens = BLOCKS.contains(&word) && (word != "set" || !body.contains('='));
        match word {
            "elif" | "else" => {
                let branches = self.blocks.last_mut().map(|branches| std::mem::replace(branches, *branches + 1));
                if branches.is_some_and(|branches| branches > MAX_BRANCHES) {
                    return Err(format!("more than {MAX_BRANCHES} branches"));
                }
            }
            _ if opens => {
                self.blocks.push(0);
                self.macros += usize::from(word == "macro");
            }
            _ if word.starts_with("end") => _ = self.blocks.pop(),
            _ => {}
        }
        if self.blocks.len() > MAX_BLOCKS {
            return Err(format!("blocks nested more than {MAX_BLOCKS} deep"));
        }
        if self.macros > MAX_MACROS {
            return Err(format!("more than {MAX_MACROS} macros"));
        }
        expression(body)
    }
}

/// Checks that the parser can handle an expression.
pub(super) fn expression(text: &str) -> Result<(), String> {
    let (mut open, mut chain, mut repeats, mut rest, mut last) = (Vec::new(), 0, 0, text, "");
    while !rest.is_empty() {
        let token = token(rest);
        rest = &rest[token.len()..];
        match token {
            "(" | "[" | "{" => {
                open.push(chain + 1);
                chain = 0;
            }
            ")" | "]" | "}" => chain = open.pop().unwrap_or(0),
            "," => chain = 0,
            "and" | "or" | "not" | "in" | "is" | "if" | "else" => chain += 1,
            _ if token.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c.is_whitespace()) => {}
            _ if token.starts_with(['"', '\'']) => {}
            _ => {
                chain += 1;
                repeats += usize::from(token == "*" && last != "*");
            }
        }
        last = if token.trim().is_empty() { last } else { token };
        if chain > MAX_CHAIN {
            return Err(format!("more than {MAX_CHAIN} operators in a row"));
        }
        if open.len() > MAX_BRACKETS {
            return Err(format!("brackets nested more than {MAX_BRACKETS} deep"));
        }
        if repeats > MAX_REPEATS {
            return Err(format!("more than {MAX_REPEATS} products in one tag"));
        }
    }
    Ok(())
}
