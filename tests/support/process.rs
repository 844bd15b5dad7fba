//! Runs a test again in another process, which can be killed, limited or stripped of a right.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Starts the second process unchanged.
pub const PLAIN: &str = "exec \"$0\" --exact \"$1\"";
/// A write beyond the file size limit fails instead of killing the process.
pub const UNSIGNALLED: &str = "trap '' XFSZ; exec \"$0\" --exact \"$1\"";
/// Root may write anywhere, so it drops that capability first.
pub const NO_ROOT: &str = "if [ \"$(id -u)\" = 0 ]; then exec setpriv --bounding-set -dac_override \"$0\" --exact \"$1\"; fi; \
                           exec \"$0\" --exact \"$1\"";

/// Runs the test `name` of this binary in another process, through `shell`, which gets the binary in `$0`.
pub fn again(name: &str, folder: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", shell]).arg(std::env::current_exe().unwrap()).arg(name);
    command.env("HEADSTART_TEST_CHILD", folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// In the second process: its folder.
pub fn child() -> Option<PathBuf> {
    std::env::var_os("HEADSTART_TEST_CHILD").map(PathBuf::from)
}

/// Runs a command that must succeed, and shows its output if it fails.
pub fn succeeds(mut command: Command) {
    let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(done.status.success() && said[0].contains("1 passed"), "{}{}", said[0], said[1]);
}
