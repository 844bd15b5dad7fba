//! `headstart models` against a local hub: what is fetched, kept and refused, and who receives the token.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use headstart::{Download, Error, find_model};
use tempfile::TempDir;

use crate::hub_server::{COMMIT, HubServer, REPO, etag};
#[cfg(unix)]
use crate::support::process;

pub const FILE: &str = "tiny.Q4_0.gguf";
pub const SIZE: usize = 1 << 20;

/// Bytes without a period, so that a piece in the wrong place changes the digest.
fn noise(length: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

pub struct Home {
    pub folder: TempDir,
    pub server: HubServer,
    bytes: Vec<u8>,
}

impl Home {
    pub fn new() -> Self {
        let bytes = noise(SIZE);
        let server = HubServer::start(&[(FILE, &bytes, true)]);
        Self { folder: tempfile::tempdir().unwrap(), server, bytes }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        command.env_clear().env("HOME", self.folder.path()).env("HF_ENDPOINT", &self.server.endpoint).arg("models");
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn pull(&self) -> Output {
        self.run(&["pull", &format!("{REPO}:{FILE}")])
    }

    pub fn repo(&self) -> PathBuf {
        self.folder.path().join(".cache/huggingface/hub/models--acme--tiny")
    }

    pub fn blob(&self) -> PathBuf {
        self.repo().join("blobs").join(etag(&self.bytes, true))
    }

    fn incomplete(&self) -> PathBuf {
        self.blob().with_extension("incomplete")
    }

    /// Leaves the first bytes of the file, as an earlier run that was stopped would have.
    fn begin(&self, bytes: &[u8]) {
        fs::create_dir_all(self.repo().join("blobs")).unwrap();
        fs::write(self.incomplete(), bytes).unwrap();
    }
}

/// In a process of its own, whose environment names the hub.
#[cfg(unix)]
#[test]
fn the_crate_finds_a_model_by_the_programs_names() {
    let name = format!("{REPO}:Q4_0");
    if process::child().is_some() {
        let mut told = Vec::new();
        let path = find_model(&name, &mut |download| {
            let Download::File { name, done, total } = download else { panic!("nobody else downloads") };
            told.push((name.to_owned(), done, total));
        });
        assert_eq!(fs::read(path.unwrap()).unwrap(), noise(SIZE));
        let size = SIZE as u64;
        assert!(told.iter().all(|(name, _, total)| name == FILE && *total == size), "{told:?}");
        assert_eq!((told.first().map(|told| told.1), told.last().map(|told| told.1)), (Some(0), Some(size)));
        find_model(&name, &mut |download| panic!("it is here already: {download:?}")).unwrap();
        assert!(matches!(find_model("no/such:Q4_0", &mut |_| {}), Err(Error::Download { .. })));
        return;
    }
    let home = Home::new();
    let mut again =
        process::again("hub::the_crate_finds_a_model_by_the_programs_names", home.folder.path(), process::PLAIN);
    again.env("HOME", home.folder.path()).env("HF_ENDPOINT", &home.server.endpoint).env_remove("XDG_CACHE_HOME");
    process::succeeds(again);
}

/// The path that a successful command printed.
#[track_caller]
pub fn path(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", error(output));
    PathBuf::from(String::from_utf8(output.stdout.clone()).unwrap().trim_end())
}

pub fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn refused(output: &Output, words: &[&str]) {
    let text = error(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} not all in: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn pull_writes_the_layout_python_reads() {
    let home = Home::new();
    let path = path(&home.pull());
    assert_eq!(path, home.repo().join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(fs::read(&path).unwrap(), home.bytes);
    assert_eq!(fs::read_to_string(home.repo().join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(&path).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(etag(&home.bytes, true)));
    assert!(!home.incomplete().exists());
}

#[test]
fn second_pull_moves_no_byte_and_a_kept_model_makes_no_request() {
    let home = Home::new();
    let first = path(&home.pull());
    let requests = home.server.state().requests.len();
    assert_eq!(path(&home.pull()), first);
    assert_eq!(home.server.state().sent, SIZE as u64);
    let asked_again = home.server.state().requests.len();
    assert!(asked_again > requests, "pull asks for the current version");
    assert_eq!(path(&home.run(&["path", &format!("{REPO}:{FILE}")])), first);
    assert_eq!(home.server.state().requests.len(), asked_again);
}

#[test]
fn a_stopped_download_is_resumed() {
    let home = Home::new();
    let kept = SIZE / 3;
    home.begin(&home.bytes[..kept]);
    let path = path(&home.pull());
    assert_eq!(fs::read(path).unwrap(), home.bytes);
    assert_eq!(home.server.state().sent, (SIZE - kept) as u64);
}

#[test]
fn a_cut_connection_loses_only_the_current_piece() {
    let home = Home::new();
    home.server.state().cuts = vec![SIZE / 4, SIZE / 2];
    let path = path(&home.pull());
    assert_eq!(fs::read(path).unwrap(), home.bytes);
    let state = home.server.state();
    let offsets: Vec<_> = state.requests.iter().filter(|r| r.storage).map(|r| r.offset).collect();
    assert_eq!(offsets, [0, SIZE / 4, SIZE / 2]);
    assert_eq!(state.sent, SIZE as u64);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let home = Home::new();
    home.begin(&home.bytes[..SIZE / 2]);
    home.server.state().ignores_ranges = true;
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
    assert_eq!(home.server.state().sent, SIZE as u64);
}

#[test]
fn a_wrong_beginning_is_detected_and_fetched_again() {
    let home = Home::new();
    home.begin(&vec![7; SIZE / 2]);
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
}

#[test]
fn a_beginning_longer_than_the_file_is_dropped() {
    let home = Home::new();
    home.begin(&vec![7; SIZE + 1]);
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
    assert_eq!(home.server.state().sent, SIZE as u64);
}

#[test]
fn wrong_bytes_are_refused_and_removed() {
    let home = Home::new();
    home.server.state().corrupts = true;
    refused(&home.pull(), &["SHA-256", FILE]);
    assert!(!home.blob().exists() && !home.incomplete().exists());
    assert!(!home.repo().join("refs/main").exists());
    home.server.state().corrupts = false;
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
}

#[test]
fn more_bytes_than_announced_are_never_kept() {
    let home = Home::new();
    home.server.state().overlong = true;
    refused(&home.pull(), &["more than the 1048576 bytes"]);
    assert!(!home.blob().exists() && !home.incomplete().exists());
}

#[test]
fn the_token_is_sent_to_the_hub_but_not_to_its_storage() {
    let home = Home::new();
    home.server.state().token = Some("hf_secret".into());
    let spec = format!("{REPO}:{FILE}");
    refused(&home.run(&["pull", &spec]), &["HF_TOKEN", "private or gated"]);
    let wrong = home.command(&["pull", &spec]).env("HF_TOKEN", "hf_other").output().unwrap();
    refused(&wrong, &["gated", "accept its terms"]);
    home.server.state().requests.clear();
    path(&home.command(&["pull", &spec]).env("HF_TOKEN", "hf_secret").output().unwrap());
    let requests = home.server.state().requests.clone();
    assert!(requests.iter().any(|request| request.storage));
    for request in &requests {
        assert_eq!(request.token.as_deref(), (!request.storage).then_some("hf_secret"), "{request:?}");
    }
}

#[test]
fn the_token_of_a_login_is_used() {
    let home = Home::new();
    home.server.state().token = Some("hf_kept".into());
    let hf = home.folder.path().join("hf");
    fs::create_dir_all(&hf).unwrap();
    fs::write(hf.join("token"), "hf_kept\n").unwrap();
    let output = home.command(&["pull", &format!("{REPO}:{FILE}")]).env("HF_HOME", &hf).output().unwrap();
    assert!(path(&output).starts_with(hf.join("hub")));
}

#[test]
fn a_server_that_falters_is_asked_again() {
    let home = Home::new();
    home.server.state().refusals = vec![500, 503];
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
}

#[test]
fn a_missing_file_is_reported_with_those_that_exist() {
    let home = Home::new();
    refused(&home.run(&["pull", "acme/tiny:other.gguf"]), &["acme/tiny has no file other.gguf", FILE]);
    refused(&home.run(&["pull", "acme/none:other.gguf"]), &["acme/none", "does not exist"]);
    home.server.state().listed = vec!["tiny.Q8_0.gguf".into()];
    refused(&home.run(&["pull", REPO]), &["several models", FILE, "tiny.Q8_0.gguf"]);
    assert_eq!(home.server.state().sent, 0);
}

#[test]
fn a_format_selects_a_file() {
    let home = Home::new();
    home.server.state().listed = [
        "tiny.IQ4_0.gguf",
        "tiny.Q4_0_8_8.gguf",
        "mmproj-q4_0.gguf",
        "tiny-UD-Q4_K_XL.gguf",
        "tiny-Q4_K_XL.gguf",
        "b-Q2_K-00002-of-00002.gguf",
    ]
    .map(String::from)
    .into();
    for name in ["q4_0", "Q4_0", "Q4_0@main"] {
        let kept = path(&home.run(&["pull", &format!("{REPO}:{name}")]));
        assert_eq!(kept, home.repo().join("snapshots").join(COMMIT).join(FILE));
    }
    let requests = home.server.state().requests.len();
    assert!(path(&home.run(&["path", &format!("{REPO}:q4_0")])).ends_with(FILE));
    assert_eq!(home.server.state().requests.len(), requests, "kept files are not requested");
    refused(
        &home.run(&["pull", &format!("{REPO}:Q4_K_XL")]),
        &["may be any of", "tiny-Q4_K_XL.gguf", "tiny-UD-Q4_K_XL.gguf"],
    );
    refused(&home.run(&["pull", &format!("{REPO}:Q8_0")]), &["acme/tiny has no file Q8_0", FILE]);
    refused(&home.run(&["pull", &format!("{REPO}:Q2_K")]), &["acme/tiny has no file Q2_K"]);
}

#[test]
fn an_unreachable_hub_is_one_clear_sentence() {
    let home = Home::new();
    // A port without a listener.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = home.command(&["pull"]).env("HF_ENDPOINT", format!("http://{address}")).output().unwrap();
    refused(&output, &["nothing answers", "HF_ENDPOINT"]);
    refused(&home.command(&["pull"]).env("HF_ENDPOINT", "hub.example").output().unwrap(), &["HF_ENDPOINT"]);
    let offline = home.command(&["pull"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    refused(&offline, &["HF_HUB_OFFLINE"]);
    assert!(home.server.state().requests.is_empty());
}

#[test]
fn no_name_escapes_the_cache_directory() {
    let home = Home::new();
    let names = [
        "../etc:x.gguf",
        "acme/..:x.gguf",
        "acme/tiny:../../x.gguf",
        "acme/tiny:/etc/x.gguf",
        "acme/tiny/../x.gguf",
        "acme/tiny@../../x:y.gguf",
        "acme/tiny:a\\b.gguf",
        "acme/tiny@",
        "acme/",
        "/acme/tiny",
        "acme",
        "",
        "acme/tiny:config.json",
    ];
    for name in names {
        refused(&home.run(&["pull", name]), &["model:"]);
    }
    assert!(home.server.state().requests.is_empty());
}

fn checkpoint(index: &str, listed: &[&str]) -> Home {
    let mut home = Home::new();
    let shard = noise(4096);
    home.server = HubServer::start(&[
        ("config.json", b"{}", false),
        ("tokenizer.json", b"{\"version\":\"1.0\"}", false),
        ("README.md", b"not asked for", false),
        ("model.safetensors.index.json", index.as_bytes(), false),
        ("model-00001-of-00002.safetensors", &shard, true),
        ("model-00002-of-00002.safetensors", &shard[..1024], true),
    ]);
    home.server.state().listed = listed.iter().map(ToString::to_string).collect();
    home
}

#[test]
fn a_sharded_checkpoint_is_fetched_whole() {
    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let home = checkpoint(index, &[]);
    let folder = path(&home.run(&["pull", REPO]));
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names, ["config.json", shards[0], shards[1], "model.safetensors.index.json", "tokenizer.json"]);
    assert_eq!(fs::read(folder.join(shards[1])).unwrap(), noise(4096)[..1024]);
    assert_eq!(path(&home.run(&["path", REPO])), folder);
    let list = String::from_utf8(home.run(&["ls"]).stdout).unwrap();
    assert!(list.starts_with("NAME ") && list.contains("\nacme/tiny "), "{list}");
}

#[test]
fn a_sharded_gguf_is_fetched_whole() {
    const SHARDS: [&str; 2] = ["Q4/big-00001-of-00002.gguf", "Q4/big-00002-of-00002.gguf"];
    let bytes = noise(4096);
    let served = [(SHARDS[0], &bytes[..], true), (SHARDS[1], &bytes[..1024], true)];
    for name in [REPO.to_owned(), format!("{REPO}:{}", SHARDS[0]), format!("{REPO}:{}", SHARDS[1])] {
        let mut home = Home::new();
        home.server = HubServer::start(&served);
        let snapshot = home.repo().join("snapshots").join(COMMIT);
        let named = path(&home.run(&["pull", &name]));
        assert_eq!(named, snapshot.join(if name.ends_with(SHARDS[1]) { SHARDS[1] } else { SHARDS[0] }));
        assert_eq!(fs::read(snapshot.join(SHARDS[0])).unwrap(), bytes);
        assert_eq!(fs::read(snapshot.join(SHARDS[1])).unwrap(), bytes[..1024]);
        assert_eq!(home.server.state().sent, 5120);
        let requests = home.server.state().requests.len();
        assert_eq!(path(&home.run(&["path", &name])), named);
        assert_eq!(home.server.state().requests.len(), requests, "complete shards are not requested");
        let list: serde_json::Value = serde_json::from_slice(&home.run(&["ls", "--json"]).stdout).unwrap();
        assert_eq!((list.as_array().unwrap().len(), &list[0]["bytes"]), (1, &5120.into()), "{list}");
        assert_eq!(list[0]["name"], format!("{REPO}:{}", SHARDS[0]));
        // Only the shard that was removed is fetched again.
        fs::remove_file(home.repo().join("blobs").join(etag(&bytes[..1024], true))).unwrap();
        assert_eq!(path(&home.run(&["path", &name])), named);
        assert_eq!(home.server.state().sent, 6144);
    }
    let mut home = Home::new();
    home.server = HubServer::start(&served[..1]);
    refused(&home.run(&["pull", REPO]), &["acme/tiny has no file Q4/big-00002-of-00002.gguf"]);
    assert_eq!(home.server.state().sent, 0);
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let outside = checkpoint(r#"{"weight_map":{"a":"../../../../x.safetensors"}}"#, &["../../../../x.safetensors"]);
    refused(&outside.run(&["pull", REPO]), &["weight_map", "outside"]);
    let absent = checkpoint(r#"{"weight_map":{"a":"model-00009-of-00009.safetensors"}}"#, &[]);
    refused(&absent.run(&["pull", REPO]), &["weight_map", "model-00009-of-00009.safetensors"]);
    assert!(!absent.repo().join("refs/main").exists());
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let home = Home::new();
    home.server.state().delay = Duration::from_millis(40);
    let spec = format!("{REPO}:{FILE}");
    let start = || {
        let mut command = home.command(&["pull", &spec]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let pulls = [start(), start()];
    let paths = pulls.map(|pull| path(&pull.wait_with_output().unwrap()));
    assert_eq!(paths[0], paths[1]);
    assert_eq!(home.server.state().sent, SIZE as u64);
}

#[test]
fn a_killed_pull_is_resumed() {
    let home = Home::new();
    home.server.state().delay = Duration::from_millis(30);
    let mut pull = home.command(&["pull", "--quiet", &format!("{REPO}:{FILE}")]).spawn().unwrap();
    while fs::metadata(home.incomplete()).map_or(0, |data| data.len()) == 0 {
        assert!(pull.try_wait().unwrap().is_none(), "the pull ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    let kept = fs::metadata(home.incomplete()).unwrap().len() as usize;
    assert!(kept < SIZE);
    home.server.state().delay = Duration::ZERO;
    assert_eq!(fs::read(path(&home.pull())).unwrap(), home.bytes);
    let last = home.server.state().requests.iter().rfind(|request| request.storage).unwrap().offset;
    assert_eq!(last, kept);
}
