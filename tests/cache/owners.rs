//! A cache directory and two users: neither reads nor trusts what the other made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Home, WHALE, files, reused};
use crate::cli::{json_of, refusal, str_of};

const TINY: &str = "tiny-odd-f16";
const STRANGER: u32 = 12_345;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether the test may run commands as another user; prints a note if not.
fn may_be_others(home: &Home) -> bool {
    let root = fs::metadata(home.model.path()).unwrap().uid() == 0;
    if !root {
        println!("skipped: only root can run a command as another user");
    }
    root
}

#[test]
fn a_directory_that_others_write_to_is_refused_by_every_command() {
    let home = Home::new(TINY);
    json_of(&mut home.generate(WHALE));
    set_mode(&home.dir(), 0o777);
    let system = home.file("system.json", &[("system", "Be brief.")]);
    let commands: [&mut Command; 6] = [
        &mut home.generate(WHALE),
        &mut home.run(&["prefix", "ls"]),
        &mut home.run(&["prefix", "rm", "--all"]),
        &mut home.run(&["prefix", "unpin", "x"]),
        &mut home.with_model(&["prefix", "warm", str_of(&system)]),
        &mut home.with_model(&["prefix", "pin", str_of(&system), "--name", "x"]),
    ];
    let before = files(&home.dir(), "");
    for command in commands {
        let message = refusal(command);
        assert!(message.starts_with(str_of(&home.dir())) && message.contains("chmod 700"), "{message}");
    }
    assert_eq!(files(&home.dir(), ""), before);
    // The suggested remedy works.
    let mut none = home.generate(WHALE);
    none.arg("--exact");
    set_mode(&home.dir(), 0o700);
    assert_ne!(json_of(&mut none)["cache"]["sources"]["disk"], json!(0));
}

#[test]
fn another_users_prompts_are_not_listed_and_their_blocks_not_used() {
    let home = Home::new(TINY);
    if !may_be_others(&home) {
        return;
    }
    json_of(&mut home.generate(WHALE));
    let blocks = files(&home.dir(), ".safetensors");
    assert!(!blocks.is_empty());
    // A copy that the stranger may run, since the build folder may be closed to them.
    let bin = home.path("headstart");
    fs::copy(env!("CARGO_BIN_EXE_headstart"), &bin).unwrap();
    set_mode(&bin, 0o755);
    let above = home.dir().parent().unwrap().to_owned();
    set_mode(&above, 0o755);
    let stranger = |dir: &Path| {
        let mut command = Command::new(&bin);
        command.uid(STRANGER).gid(STRANGER).env("HOME", &above);
        command.args(["prefix", "ls", "--cache-dir"]).arg(dir);
        command
    };
    // A stranger learns nothing from a closed directory, nor from one that its owner left open.
    for mode in [0o700, 0o755, 0o777] {
        set_mode(&home.dir(), mode);
        let message = refusal(&mut stranger(&home.dir()));
        assert!(message.contains(&format!("belongs to user 0, and this runs as user {STRANGER}")), "{message}");
    }
    // A planted directory that belongs to the stranger.
    set_mode(&home.dir(), 0o700);
    chown(home.dir(), Some(STRANGER), None).unwrap();
    let message = refusal(&mut home.generate(WHALE));
    assert!(message.contains(&format!("belongs to user {STRANGER}, and this runs as user 0")), "{message}");
    // The directory taken back, with the stranger's blocks still in it: they are misses and are written again.
    chown(home.dir(), Some(0), None).unwrap();
    blocks.iter().for_each(|path| chown(path, Some(STRANGER), None).unwrap());
    let missed = json_of(&mut home.generate(WHALE));
    reused(&missed, &[]);
    assert_eq!(missed["cache"]["misses"][0]["reason"], "another_users", "{}", missed["cache"]);
    assert!(blocks.iter().any(|path| fs::metadata(path).unwrap().uid() == 0));
    assert_ne!(json_of(home.generate(WHALE).arg("--exact"))["cache"]["sources"]["disk"], json!(0));
}
