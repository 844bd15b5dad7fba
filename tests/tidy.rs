//! The house rules as tests: which module may import which, how long a file may be, what must not be left in the code,
//! and that every kernel has its shader, its Rust face and its CPU twin.
//!
//! The rules read the sources with comments and literals blanked out, so a doc link is no import and this file may
//! name what it forbids.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `module: what it may import` beside itself. A new top-level module needs a row.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("quant", &["error"]),
    ("gpu", &["error"]),
    ("kv", &["error"]),
    ("store", &["error"]),
    ("text", &["error"]),
    ("sample", &["error"]),
    ("kernels", &["error", "quant", "gpu", "kv", "store", "text", "sample"]),
    ("weights", &["error", "quant", "gpu", "kv", "store", "text", "sample"]),
    ("model", &["error", "quant", "gpu", "kv", "store", "text", "sample", "kernels", "weights"]),
    ("engine", &["error", "quant", "gpu", "kv", "store", "text", "sample", "kernels", "weights", "model"]),
    ("hub", &["error", "kv", "weights"]),
    ("chat", &["error", "store", "text", "sample", "weights", "model", "engine"]),
    (
        "cli",
        &[
            "error", "quant", "gpu", "kv", "store", "text", "sample", "kernels", "weights", "hub", "model", "engine",
            "chat",
        ],
    ),
    ("server", &["error", "quant", "gpu", "kv", "store", "text", "sample", "kernels", "weights", "model", "engine"]),
];

/// Who alone may step an engine.
const LOOP: &str = "src/engine/answers";

/// Modules that must work, and be tested, without a device.
const NO_DEVICE: &[&str] = &["kv", "store"];

const MAX_LINES: usize = 500;
const COUNTED: &[&str] = &["rs", "wgsl", "ts"];
const LEFTOVERS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore", "#![ignore"];
const FOLDERS: &[&str] = &["examples", "src", "shaders", "tests", "web"];

#[test]
fn every_source_follows_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.iter().any(|f| f.ends_with("src/lib.rs")), "the walk found no sources under {}", root.display());
    let problems: Vec<String> = files
        .iter()
        .filter(|path| extension(path).is_some_and(|e| COUNTED.contains(&e)))
        .flat_map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            violations(&name, &fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_kernel_has_its_shader_its_face_and_its_twin() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str, kind: &str| -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { return BTreeSet::new() };
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| extension(path) == Some(kind));
        let stems = paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
        // The plan of all kernels is none.
        stems.filter(|name| !["mod", "plan"].contains(&&**name)).collect()
    };
    let trio = [names("shaders", "wgsl"), names("src/kernels", "rs"), names("tests/reference", "rs")];
    let problems = incomplete_trios(&trio);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_rules_bite() {
    let bites = |name: &str, source: &str, about: &str| {
        let found = violations(name, source);
        assert!(
            found.len() == 1 && found[0].contains(about),
            "{name} {source:?}: expected one about {about:?}: {found:?}"
        );
    };
    bites("src/quant/q8.rs", "use crate::gpu::Tensor;", "gpu");
    bites("src/weights/gguf.rs", "use crate::{error::Result, kernels::{a, b}};", "kernels");
    bites("src/model/llama.rs", "fn f() { crate::engine::Engine::new() }", "engine");
    bites("src/model/llama.rs", "use crate :: engine as e;", "engine");
    bites("src/error.rs", "use super::quant::Format;", "quant");
    bites("src/gpu/mod.rs", "use super::weights;", "weights");
    bites("src/gpu/submit.rs", "use super::super::weights;", "super::super");
    bites("src/text/mod.rs", "use crate::Result;", "Result");
    bites("src/text/mod.rs", "use crate::*;", "*");
    bites("src/novel/mod.rs", "", "no row");
    bites("src/kv/pages.rs", "fn f(b: &wgpu::Buffer) {}", "wgpu");
    bites("src/kv/mod.rs", "fn f() { todo!() }", "todo!");
    bites("tests/x.rs", "fn f(x: u8) { let _ = '\"'; dbg!(x); }", "dbg!");
    bites("tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "#[ignore");
    bites("src/cli/chat.rs", "fn f(engine: &mut Engine) { block_on(engine.step()); }", "alone steps");
    bites("web/src/engine.rs", "fn f() { self.answers.engine_mut() . step ( ) }", "alone steps");
    bites("src/engine/packs.rs", "fn f() { Engine::step(self) }", "alone steps");
    bites("shaders/rope.wgsl", &"\n".repeat(MAX_LINES + 1), "501 lines");

    let passes = |name: &str, source: &str| assert_eq!(violations(name, source), Vec::<String>::new(), "{name}");
    passes("src/engine/mod.rs", "use crate::{error::{Error, Result}, model::Llama, kv};\nuse crate::engine::step;");
    passes(
        "src/quant/q8.rs",
        "//! See [`crate::gpu::Tensor`].\n/* crate::engine /* nested */ dbg! */ pub(crate) fn f() {}",
    );
    passes(
        "src/kv/pages.rs",
        r##"const S: &str = r#"wgpu "crate::engine" todo!"#; fn f<'a>(x: &'a str) -> char { '\'' }"##,
    );
    passes("src/engine/answers/mod.rs", "fn f() { self.engine.step() }");
    passes("web/src/engine.rs", "fn f() { self.answers.step(); one.step; a.stepped() }");
    passes("tests/engine.rs", "fn f() { engine.step() }");
    passes("src/quant/mod.rs", "mod tests { use super::*; }");
    passes("src/main.rs", "use headstart::cli; fn main() {}");
    passes("shaders/rope.wgsl", &"\n".repeat(MAX_LINES));

    let set = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
    assert!(incomplete_trios(&[set(&["rope"]), set(&["rope"]), set(&["rope"])]).is_empty());
    for absent in 0..3 {
        let mut trio = [set(&["rope"]), set(&["rope"]), set(&["rope"])];
        trio[absent] = set(&[]);
        assert_eq!(incomplete_trios(&trio).len(), 1, "absent: {absent}");
    }
}

fn violations(name: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{name}: {lines} lines; split it below {MAX_LINES}"));
    }
    if !name.ends_with(".rs") {
        return found;
    }
    let code = code_only(source);
    if !name.starts_with("tests/") && !name.starts_with(LOOP) && steps_an_engine(&code) {
        found.push(format!("{name}: {LOOP} alone steps an engine; ask and run an answer"));
    }
    found.extend(LEFTOVERS.iter().filter(|word| code.contains(**word)).map(|word| format!("{name}: {word} left in")));
    let Some(module) = module_of(name) else { return found };
    let Some((_, allowed)) = IMPORTS.iter().find(|(row, _)| *row == module) else {
        found.push(format!("{name}: module {module} has no row in the import table"));
        return found;
    };
    let in_root = name.matches('/').count() == 1 || name.matches('/').count() == 2 && name.ends_with("/mod.rs");
    for import in imports(&code, in_root) {
        if import != module && !allowed.contains(&import.as_str()) {
            found.push(format!("{name}: {module} must not import {import}"));
        }
    }
    if NO_DEVICE.contains(&module) && words(&code).contains(&"wgpu") {
        found.push(format!("{name}: {module} must not name wgpu"));
    }
    found
}

/// Whether `step` is called on anything but `answers`.
fn steps_an_engine(code: &str) -> bool {
    let words = words(code);
    let called = |at: usize| words.get(at..at + 3).is_some_and(|call| call == [".", "step", "("]);
    let named = words.windows(3).any(|path| path == ["Engine", "::", "step"]);
    named || (1..words.len()).any(|at| called(at) && words[at - 1] != "answers")
}

/// `src/quant/q8.rs` and `src/quant.rs` are of module `quant`; the crate's two roots are of none.
fn module_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("src/").filter(|rest| !["lib.rs", "main.rs"].contains(rest))?;
    rest.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

/// The top-level modules that `code` names: after `crate::`, in the groups of `use crate::{…}`, and after `super::`
/// where that is the crate's root. Anything else found at the root is named as it stands, so it has no row and fails.
fn imports(code: &str, super_is_root: bool) -> BTreeSet<String> {
    let words = words(code);
    let mut found = BTreeSet::new();
    for (at, pair) in words.windows(2).enumerate() {
        let climbs = pair == ["super", "::"];
        if climbs && words.get(at + 2) == Some(&"super") {
            found.insert("super::super".to_string());
        }
        if pair != ["crate", "::"] && !(climbs && super_is_root) {
            continue;
        }
        match words.get(at + 2) {
            Some(&"{") => found.extend(group(&words[at + 3..]).map(str::to_string)),
            Some(&"*") if climbs => {}
            Some(word) => _ = found.insert(word.to_string()),
            None => {}
        }
    }
    found
}

/// The first word of every item of a brace group, given what follows its `{`.
fn group<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let (mut depth, mut fresh) = (1, true);
    let inside = words.iter().take_while(move |word| {
        depth += (**word == "{") as i32 - (**word == "}") as i32;
        depth > 0
    });
    let mut level = 1;
    inside.filter_map(move |word| {
        level += (*word == "{") as i32 - (*word == "}") as i32;
        let first = std::mem::take(&mut fresh);
        fresh = level == 1 && *word == ",";
        (first && *word != ",").then_some(*word)
    })
}

/// Identifiers, `::`, and every other sign alone.
fn words(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let identifier = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let end = match identifier {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            end => end,
        };
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

/// `source` without comments, and with every string and character literal emptied.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let previous_is_word = code.ends_with(|p: char| p.is_alphanumeric() || p == '_');
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if !previous_is_word || code.ends_with(['b', 'c']) => raw_string(rest),
            '"' => quoted(rest, '"'),
            '\'' if is_character(rest) => quoted(rest, '\''),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
        }
        rest = &rest[skipped.max(if skipped == 0 { c.len_utf8() } else { 0 })..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = text[at..].chars().next().map_or(1, char::len_utf8);
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += step;
        }
    }
    text.len()
}

/// The length of the raw string that starts here, or 0 where none does.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&close).map_or(text.len(), |end| body + end + close.len())
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A quote opens a character, not a lifetime, if a backslash follows or the closing quote comes after one character.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

fn incomplete_trios(trio: &[BTreeSet<String>; 3]) -> Vec<String> {
    const PLACES: [&str; 3] = ["shaders/{}.wgsl", "src/kernels/{}.rs", "tests/reference/{}.rs"];
    let all: BTreeSet<&String> = trio.iter().flatten().collect();
    let absent = all.into_iter().flat_map(|kernel| {
        (0..3).filter(|i| !trio[*i].contains(kernel)).map(move |i| (kernel, PLACES[i].replace("{}", kernel)))
    });
    absent.map(|(kernel, place)| format!("kernel {kernel} has no {place}")).collect()
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !["node_modules", "target", "dist", "pkg"].contains(&name.as_str())
            && !name.starts_with('.')
        {
            collect(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}
