//! The WGSL preprocessor. It lets one `.wgsl` file have many permutations and share code with others.
//!
//! Directives stand on their own line:
//! - `#import path` inserts another shader file, once;
//! - `#if NAME`, `#if !NAME`, `#if NAME == N` … `#else` … `#endif`: a name that is not defined counts as 0;
//! - `#for i in A..B` … `#end` repeats its body for each `i`, nested at will (Naga's loops are not unrolled by drivers).
//!
//! `${expression}` is replaced by its value: `+`, `*` and `/` over numbers, loop variables and definitions;
//! `${name:f32}` by the float whose bits the definition holds.

use crate::error::{Error, Result};

/// Shader sources by path without the extension.
pub(crate) type Library = &'static [(&'static str, &'static str)];

/// Expands `name` from `library` with `defines`.
pub fn expand(library: Library, name: &str, defines: &[(&str, u32)]) -> Result<String> {
    let mut expander = Expander { library, imported: Vec::new(), out: String::new(), root: name };
    let mut scope: Vec<(String, u32)> = defines.iter().map(|(n, v)| (n.to_string(), *v)).collect();
    expander.file(name, &mut scope)?;
    Ok(expander.out)
}

struct Expander<'a> {
    library: Library,
    imported: Vec<&'static str>,
    out: String,
    root: &'a str,
}

impl Expander<'_> {
    fn fail<T>(&self, problem: String) -> Result<T> {
        Err(Error::Shader { name: self.root.to_string(), problem })
    }

    fn file(&mut self, path: &str, scope: &mut Vec<(String, u32)>) -> Result<()> {
        let Some((path, source)) = self.library.iter().find(|(p, _)| *p == path) else {
            return self.fail(format!("no shader file {path}"));
        };
        if self.imported.contains(path) {
            return Ok(());
        }
        self.imported.push(path);
        let lines: Vec<&str> = source.lines().collect();
        self.block(&lines, scope)
    }

    fn block(&mut self, lines: &[&str], scope: &mut Vec<(String, u32)>) -> Result<()> {
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at].trim_start();
            let Some(directive) = line.strip_prefix('#') else {
                self.line(lines[at], scope)?;
                at += 1;
                continue;
            };
            let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            let rest = rest.trim();
            match word {
                "import" => {
                    let path = self.substitute(rest, scope)?;
                    self.file(&path, scope)?;
                    at += 1;
                }
                "if" => {
                    let (middle, end) = self.branches(lines, at)?;
                    let body = match (self.condition(rest, scope)?, middle) {
                        (true, Some(middle)) => &lines[at + 1..middle],
                        (true, None) => &lines[at + 1..end],
                        (false, Some(middle)) => &lines[middle + 1..end],
                        (false, None) => &[],
                    };
                    self.block(body, scope)?;
                    at = end + 1;
                }
                "for" => {
                    let end = self.closing(lines, at, "for", "end")?;
                    let Some((variable, from, to)) = self.range(rest, scope)? else {
                        return self.fail(format!("`#for {rest}` is not `#for NAME in A..B`"));
                    };
                    for i in from..to {
                        scope.push((variable.to_string(), i));
                        self.block(&lines[at + 1..end], scope)?;
                        scope.pop();
                    }
                    at = end + 1;
                }
                _ => return self.fail(format!("unknown directive #{word}")),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, scope: &[(String, u32)]) -> Result<()> {
        let line = self.substitute(line, scope)?;
        self.out.push_str(&line);
        self.out.push('\n');
        Ok(())
    }

    fn substitute(&self, line: &str, scope: &[(String, u32)]) -> Result<String> {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else {
                return self.fail(format!("unclosed ${{ in `{line}`"));
            };
            let name = &rest[start + 2..start + length];
            out.push_str(&rest[..start]);
            match name.strip_suffix(":f32") {
                Some(name) => out.push_str(&format!("{:e}f", f32::from_bits(self.value(name, scope)?))),
                None => out.push_str(&self.value(name, scope)?.to_string()),
            }
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Evaluates a sum of products and quotients of numbers and names, such as `i*4+1` or `R/2`.
    fn value(&self, text: &str, scope: &[(String, u32)]) -> Result<u32> {
        let mut sum = 0;
        for term in text.split('+') {
            let factors = term.split_inclusive(['*', '/']).map(str::trim);
            let mut product = 1;
            let mut divide = false;
            for factor in factors {
                let token = factor.trim_end_matches(['*', '/']).trim();
                let Some(value) = token.parse().ok().or_else(|| lookup(token, scope)) else {
                    return self.fail(format!("{token} is neither a number nor defined"));
                };
                match (divide, value) {
                    (false, _) => product *= value,
                    (true, 0) => return self.fail(format!("{text} divides by 0")),
                    (true, _) => product /= value,
                }
                divide = factor.ends_with('/');
            }
            sum += product;
        }
        Ok(sum)
    }

    fn condition(&self, text: &str, scope: &[(String, u32)]) -> Result<bool> {
        if let Some((left, right)) = text.split_once("==") {
            return Ok(lookup(left.trim(), scope).unwrap_or(0) == self.value(right.trim(), scope)?);
        }
        let (name, negated) = match text.strip_prefix('!') {
            Some(name) => (name.trim(), true),
            None => (text, false),
        };
        Ok((lookup(name, scope).unwrap_or(0) != 0) != negated)
    }

    fn range<'t>(&self, text: &'t str, scope: &[(String, u32)]) -> Result<Option<(&'t str, u32, u32)>> {
        let Some((variable, range)) = text.split_once(" in ") else { return Ok(None) };
        let Some((from, to)) = range.split_once("..") else { return Ok(None) };
        Ok(Some((variable.trim(), self.value(from.trim(), scope)?, self.value(to.trim(), scope)?)))
    }

    /// Lines of the `#else` (if any) and of the `#endif` that belong to the `#if` at `start`.
    fn branches(&self, lines: &[&str], start: usize) -> Result<(Option<usize>, usize)> {
        let mut depth = 0;
        let mut middle = None;
        for (at, line) in lines.iter().enumerate().skip(start) {
            match word(line) {
                "#if" => depth += 1,
                "#else" if depth == 1 => middle = Some(at),
                "#endif" => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok((middle, at));
                    }
                }
                _ => {}
            }
        }
        self.fail("#if without #endif".into())
    }

    fn closing(&self, lines: &[&str], start: usize, open: &str, close: &str) -> Result<usize> {
        let mut depth = 0;
        for (at, line) in lines.iter().enumerate().skip(start) {
            match word(line).strip_prefix('#') {
                Some(w) if w == open => depth += 1,
                Some(w) if w == close => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(at);
                    }
                }
                _ => {}
            }
        }
        self.fail(format!("#{open} without #{close}"))
    }
}

fn word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or("")
}

fn lookup(name: &str, scope: &[(String, u32)]) -> Option<u32> {
    scope.iter().rev().find(|(n, _)| n == name).map(|(_, v)| *v)
}
