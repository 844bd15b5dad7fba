//! What `make demo` and `make test` install by themselves, and their messages: the scripts on a machine that has next to
//! nothing.
//!
//! A script can call only the few programs that it is given here. Programs that would use the network are faked.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TOOLS: [&str; 24] = [
    "awk",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "env",
    "git",
    "gzip",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "tar",
    "tr",
    "uname",
];
/// The version of a recent enough toolchain, and of an older one.
const NEW: &str = "9.95.0";
const OLD: &str = "1.70.0";

/// A machine with its own home and PATH. Every call of a faked program is a line in `log`.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(machine.path("bin")).unwrap();
        for tool in TOOLS {
            symlink(which(tool), machine.path("bin").join(tool)).unwrap();
        }
        machine.plays("cc", "");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a program that logs its call and runs `script`.
    fn plays(&self, name: &str, script: &str) {
        self.plays_at("bin", name, script);
    }

    fn plays_at(&self, folder: &str, name: &str, script: &str) {
        let (log, path) = (self.path("log"), self.path(folder).join(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        program(&path, &format!("echo {name} \"$@\" >>'{}'\n{script}", log.display()));
    }

    /// A toolchain of this version.
    fn has_rust(&self, version: &str) {
        self.plays("rustc", &format!("echo rustc {version} of today"));
        self.plays("cargo", "");
    }

    /// A `curl` that returns this file, whatever the URL.
    fn serves(&self, file: &Path) {
        let give = format!("while [ $# -gt 1 ]; do [ \"$1\" != -o ] || cp '{}' \"$2\"; shift; done", file.display());
        self.plays("curl", &give);
    }

    /// A `rustup-init.sh` that installs a toolchain of this version into the home.
    fn serves_rustup(&self, version: &str) {
        let (script, log) = (self.path("rustup-init.sh"), self.path("log"));
        let text = format!(
            "echo init \"$@\" >>'{}'\nmkdir -p \"$HOME/.cargo/bin\"\ncd \"$HOME/.cargo/bin\"\n\
             printf '#!/bin/sh\\necho rustc {version} of today\\n' >rustc\nprintf '#!/bin/sh\\n' >cargo\nchmod +x rustc cargo\n",
            log.display()
        );
        fs::write(&script, text).unwrap();
        self.serves(&script);
    }

    fn script(&self, root: &Path, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(which("bash"));
        command.arg(root.join("scripts").join(script)).args(arguments).env_clear();
        command.env("PATH", self.path("bin")).env("HOME", self.path("home"));
        command.env("CARGO_TARGET_DIR", self.path("target")).stdin(Stdio::null());
        command
    }

    fn rust(&self, arguments: &[&str]) -> Output {
        self.script(Path::new(ROOT), "rust.sh", arguments).output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The logged calls of one program.
    fn calls(&self, name: &str) -> Vec<String> {
        let log = self.log();
        log.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)).collect()
    }
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

fn which(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{tool} is not on the PATH"))
}

fn said(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeeds(output: &Output, words: &[&str]) {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    for words in words {
        assert!(said.contains(words), "{said:?} has no {words:?}");
    }
}

#[track_caller]
fn fails(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    for words in ["error: "].iter().chain(words) {
        assert!(last.contains(words), "{last:?} has no {words:?}");
    }
}

#[test]
fn a_toolchain_that_is_new_enough_is_left_alone() {
    let machine = Machine::new();
    machine.has_rust(NEW);
    succeeds(&machine.rust(&["test"]), &[]);
    assert!(machine.calls("cargo").contains(&"clippy --version".to_owned()), "{}", machine.log());
    machine.serves_rustup(NEW);
    assert_eq!(said(&machine.rust(&[])), "", "no output");
    assert!(machine.calls("curl").is_empty());
}

#[test]
fn missing_rust_is_installed_by_rustup() {
    for (arguments, components) in [(&[][..], ""), (&["test"][..], " --component rustfmt --component clippy")] {
        let machine = Machine::new();
        machine.serves_rustup(NEW);
        let words = ["Rust is missing: 1.", "rustup's installer puts Rust into", "Rust 9.95.0 is installed"];
        succeeds(&machine.rust(arguments), &words);
        assert_eq!(machine.calls("init"), [format!("-y --default-toolchain stable --profile minimal{components}")]);
        let [fetched] = &machine.calls("curl")[..] else { panic!("{}", machine.log()) };
        assert!(
            fetched.starts_with("--proto-redir =https ")
                && fetched.ends_with(" https://static.rust-lang.org/rustup/rustup-init.sh")
        );
        // From then on it is found, even in the same shell.
        assert_eq!(said(&machine.rust(arguments)), "");
        assert_eq!(machine.calls("init").len(), 1);
    }
}

#[test]
fn without_a_network_the_message_gives_a_remedy() {
    let machine = Machine::new();
    machine.plays("curl", "exit 6");
    fails(
        &machine.rust(&[]),
        &["Rust 1.", "https://static.rust-lang.org/rustup provided it", "check the network", "https://rustup.rs"],
    );
    // The message names the mirror that the user chose.
    let mut mirrored = machine.script(Path::new(ROOT), "rust.sh", &[]);
    fails(
        &mirrored.env("RUSTUP_UPDATE_ROOT", "http://localhost/mirror").output().unwrap(),
        &["http://localhost/mirror provided it"],
    );
    assert!(machine.calls("curl")[1].ends_with(" http://localhost/mirror/rustup-init.sh"));
    // Without any program to download with.
    fs::remove_file(machine.path("bin/curl")).unwrap();
    fails(&machine.rust(&[]), &["check the network"]);
}

#[test]
fn a_toolchain_that_is_too_old_is_updated_by_its_rustup() {
    let machine = Machine::new();
    machine.has_rust(OLD);
    let new = machine.path("new-rustc");
    program(&new, &format!("echo rustc {NEW} of today"));
    machine.plays("rustup", &format!("cp '{}' '{}'", new.display(), machine.path("bin/rustc").display()));
    succeeds(
        &machine.rust(&["test"]),
        &["Rust 1.70.0 is too old: 1.", "rustup installs its stable toolchain", "Rust 9.95.0"],
    );
    let expected = "toolchain install stable --no-self-update --profile minimal --component rustfmt --component clippy";
    assert_eq!(machine.calls("rustup"), [expected]);
    // If another toolchain shadows the new one, the user has to choose.
    machine.plays("rustup", "");
    machine.has_rust(OLD);
    fails(&machine.rust(&[]), &["`rustc` is still 1.70.0", "rustup default stable"]);
}

#[test]
fn the_systems_packages_are_used_if_they_are_new_enough() {
    for (package, version, expected) in [
        ("rustc", "9.95.0+dfsg1-1", Some("rustc cargo rustfmt rust-clippy")),
        ("rustc-web", "9.95.0+dfsg1-1~deb12u2", Some("rustc-web cargo-web rustfmt-web rust-web-clippy")),
        ("rustc", "1.63.0+dfsg1-2", None),
    ] {
        let machine = Machine::new();
        machine.serves_rustup(NEW);
        machine.plays("apt-cache", &format!("[ \"$3\" != {package} ] || echo 'Version: {version}'"));
        program(&machine.path("bin/sudo"), "while [ \"${1#-}\" != \"$1\" ]; do shift; done; exec \"$@\"");
        let rust = [("rustc", format!("echo rustc {NEW} of today")), ("cargo", String::new())];
        let install = rust.map(|(name, script)| {
            let path = machine.path(name);
            program(&path, &script);
            format!("cp '{}' '{}'", path.display(), machine.path("bin").display())
        });
        machine.plays("apt-get", &install.join("\n"));
        succeeds(&machine.rust(&["test"]), &["Rust 9.95.0 is installed"]);
        let asked = machine.calls("apt-get");
        match expected {
            Some(packages) => {
                assert!(asked.len() == 1 && asked[0].ends_with(&format!(" --no-remove {packages}")), "{asked:?}")
            }
            None => assert!(asked.is_empty(), "{asked:?}"),
        }
        assert_eq!(machine.calls("init").len(), usize::from(expected.is_none()));
    }
}

/// A checkout with what a build needs.
fn checkout(machine: &Machine, repository: &str, list: &str) -> PathBuf {
    let root = machine.path("checkout");
    fs::create_dir_all(root.join("scripts")).unwrap();
    for name in ["build.sh", "common.sh", "rust.sh"] {
        fs::copy(Path::new(ROOT).join("scripts").join(name), root.join("scripts").join(name)).unwrap();
    }
    let cargo = format!("[package]\nversion = \"0.7.0\"\nrust-version = \"1.80\"\n{repository}\n");
    fs::write(root.join("Cargo.toml"), cargo).unwrap();
    fs::write(root.join("scripts/prebuilt.sha256"), list).unwrap();
    let identity =
        ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"];
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "a"], &["tag", "v0.7.0"]] {
        let mut git = Command::new(which("git"));
        git.current_dir(&root).args(identity).args(arguments).env("HOME", machine.path("home"));
        assert!(git.status().unwrap().success(), "{arguments:?}");
    }
    root
}

/// A release archive with a program that identifies itself, and the archive's line in prebuilt.sha256.
fn release(machine: &Machine) -> (PathBuf, String) {
    program(&machine.path("headstart"), "echo headstart of the release");
    let archive = machine.path("release.tar.gz");
    let mut tar = Command::new(which("tar"));
    tar.arg("-czf").arg(&archive).arg("-C").arg(machine.folder.path()).arg("headstart");
    assert!(tar.status().unwrap().success());
    let digest: String = Sha256::digest(fs::read(&archive).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let uname = |flag: &str| String::from_utf8(Command::new("uname").arg(flag).output().unwrap().stdout).unwrap();
    let name = format!("headstart-0.7.0-{}-{}.tar.gz", uname("-s").trim().to_lowercase(), uname("-m").trim());
    (archive, format!("{digest}  {name}\n"))
}

#[test]
fn a_build_announces_its_duration_and_reports_progress() {
    let machine = Machine::new();
    machine.has_rust(NEW);
    let go = machine.path("go");
    machine.plays("cargo", &format!("while [ ! -e '{}' ]; do sleep 0.02; done", go.display()));
    let mut build = machine.script(Path::new(ROOT), "build.sh", &[]);
    let mut child = build.env("TICK", "0.02").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("about 6 minutes"));
    assert!(lines.next().unwrap().contains("building for 0 min"));
    fs::write(go, "").unwrap();
    assert!(lines.last().unwrap().contains("built in 0 min"));
    assert!(child.wait().unwrap().success());
    assert_eq!(machine.calls("cargo"), ["build --release --locked"]);
    machine.plays("cargo", "exit 101");
    fails(&build.env_remove("TICK").output().unwrap(), &["the build failed after"]);
}

#[test]
fn a_released_binary_with_a_known_digest_replaces_the_build() {
    let machine = Machine::new();
    let (archive, line) = release(&machine);
    machine.serves(&archive);
    let root = checkout(&machine, "repository = \"https://example.org/headstart\"", &format!("# a list\n{line}"));
    let build = || machine.script(&root, "build.sh", &[]).output().unwrap();
    // Rust is neither installed nor needed.
    succeeds(&build(), &["downloading the binary of release 0.7.0"]);
    let binary = machine.path("target/release/headstart");
    assert!(fs::read_to_string(&binary).unwrap().contains("of the release"));
    let fetched = machine.calls("curl");
    let name = line.split_whitespace().last().unwrap();
    assert!(
        fetched.len() == 1
            && fetched[0].ends_with(&format!(" https://example.org/headstart/releases/download/v0.7.0/{name}"))
    );
    assert_eq!(said(&build()), "", "already downloaded");
    assert_eq!(machine.calls("curl").len(), 1);

    // Otherwise it is built: if the source is not the release's, the archive is wrong, or the download fails.
    machine.has_rust(NEW);
    let builds = |words: &[&str]| {
        let before = machine.calls("cargo").len();
        fs::remove_file(&binary).unwrap_or_default();
        succeeds(&build(), words);
        assert_eq!(machine.calls("cargo")[before..], ["build --release --locked"]);
        assert!(!binary.exists());
    };
    fs::write(machine.path("other"), "no archive").unwrap();
    machine.serves(&machine.path("other"));
    builds(&["not what was released (its SHA-256 differs)", "built in"]);
    machine.plays("curl", "exit 22");
    builds(&["could not be downloaded", "built in"]);
    machine.serves(&archive);
    fs::write(root.join("scripts/common.sh"), fs::read_to_string(root.join("scripts/common.sh")).unwrap() + "\n")
        .unwrap();
    let before = machine.calls("curl").len();
    builds(&["built in"]);
    assert_eq!(machine.calls("curl").len(), before, "nothing is downloaded for a changed source");
}

#[test]
fn without_a_release_nothing_is_downloaded() {
    let machine = Machine::new();
    machine.has_rust(NEW);
    machine.plays("curl", "exit 22");
    let (_, line) = release(&machine);
    for (repository, list) in [("", line.as_str()), ("repository = \"https://example.org/headstart\"", "# none\n")] {
        let root = checkout(&machine, repository, list);
        succeeds(&machine.script(&root, "build.sh", &[]).output().unwrap(), &["built in"]);
        fs::remove_dir_all(root).unwrap();
    }
    assert!(machine.calls("curl").is_empty());
}
