//! A test that is run again in another process: one that can be killed, limited or stripped of a right.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Starts the second process as it is.
pub const PLAIN: &str = "exec \"$0\" --exact \"$1\"";
/// Writing beyond the limit on the size of a file fails and does not kill it.
pub const UNSIGNALLED: &str = "trap '' XFSZ; exec \"$0\" --exact \"$1\"";
/// Root may write anywhere, so it gives that right up first.
pub const NO_ROOT: &str = "if [ \"$(id -u)\" = 0 ]; then exec setpriv --bounding-set -dac_override \"$0\" --exact \"$1\"; fi; \
                           exec \"$0\" --exact \"$1\"";

/// Runs the test `name` of this very binary in another process, through `shell` with the binary in `$0`.
pub fn again(name: &str, folder: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", shell]).arg(std::env::current_exe().unwrap()).arg(name);
    command.env("HEADSTART_TEST_CHILD", folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// In that process: its folder.
pub fn child() -> Option<PathBuf> {
    std::env::var_os("HEADSTART_TEST_CHILD").map(PathBuf::from)
}

/// Runs it and shows what it said where it fails.
pub fn succeeds(mut command: Command) {
    let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(done.status.success() && said[0].contains("1 passed"), "{}{}", said[0], said[1]);
}
