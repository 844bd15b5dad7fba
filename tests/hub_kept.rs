//! The models of a machine: where they are found, and how they are removed. Nothing asks the hub.

use std::fs;

use crate::hub::{FILE, Home, SIZE, error, path, refused};
use crate::hub_server::{COMMIT, REPO};

#[test]
fn shards_in_our_own_folder_are_one_model() {
    let home = Home::new();
    let models = home.folder.path().join("data/headstart/models");
    fs::create_dir_all(&models).unwrap();
    let files = ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"].map(|name| models.join(name));
    files.iter().for_each(|file| fs::write(file, b"GGUF").unwrap());
    let run =
        |args: &[&str]| home.command(args).env("XDG_DATA_HOME", home.folder.path().join("data")).output().unwrap();
    assert_eq!(path(&run(&["path", "big"])), files[0]);
    assert_eq!(path(&run(&["path", "big-00002-of-00002"])), files[1]);
    let list: serde_json::Value = serde_json::from_slice(&run(&["ls", "--json"]).stdout).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["bytes"]), (1, &8.into()), "{list}");
    let folder = models.to_str().unwrap();
    refused(&run(&["rm", folder]), &[folder, "delete it yourself"]);
    assert!(String::from_utf8(run(&["rm", "big"]).stdout).unwrap().ends_with("big-00001-of-00002.gguf, 8 B freed\n"));
    assert_eq!(fs::read_dir(&models).unwrap().count(), 0);
}

#[test]
fn a_cache_filled_by_python_is_used() {
    let home = Home::new();
    let hub = home.folder.path().join("elsewhere");
    let repo = hub.join("models--acme--tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs"] {
        fs::create_dir_all(repo.join(folder)).unwrap();
    }
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    fs::write(repo.join("blobs/abc"), b"GGUF").unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", snapshot.join(FILE)).unwrap();
    let spec = format!("{REPO}:{FILE}");
    for args in [["path", spec.as_str()], ["path", REPO]] {
        let output = home.command(&args).env("HF_HUB_CACHE", &hub).output().unwrap();
        assert_eq!(path(&output), snapshot.join(FILE));
    }
    let output = home.command(&["ls", "--json"]).env("HF_HUB_CACHE", &hub).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list[0]["name"], spec);
    assert_eq!(list[0]["bytes"], 4);
    assert!(home.server.state().requests.is_empty());
}

#[test]
fn our_own_folder_comes_before_the_hub() {
    let home = Home::new();
    let models = home.folder.path().join("data/headstart/models");
    fs::create_dir_all(&models).unwrap();
    let file = models.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    fs::write(&file, b"GGUF").unwrap();
    let run =
        |args: &[&str]| home.command(args).env("XDG_DATA_HOME", home.folder.path().join("data")).output().unwrap();
    for name in ["SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-Instruct.Q4_1.gguf"] {
        assert_eq!(path(&run(&["path", name])), file);
    }
    fs::write(models.join("SmolLM2-135M-Instruct.Q8_0.gguf"), b"GGUF").unwrap();
    assert_eq!(path(&run(&["path"])), file, "the default keeps meaning one file");
    refused(&run(&["path", "SmolLM2-135M"]), &["may be any of", "Q8_0"]);
    refused(&run(&["path", "SmolLM3.gguf"]), &["SmolLM3.gguf"]);
    assert!(home.server.state().requests.is_empty());
}

#[test]
fn a_model_is_removed_and_what_others_need_stays() {
    let home = Home::new();
    let spec = format!("{REPO}:{FILE}");
    home.pull();
    // Another revision links to the same blob, and a file of a person's own is not the program's to delete.
    let other = home.repo().join("snapshots/0123456789abcdef");
    fs::create_dir_all(&other).unwrap();
    std::os::unix::fs::symlink(home.blob(), other.join(FILE)).unwrap();
    fs::write(home.repo().join("refs/older"), "0123456789abcdef").unwrap();
    let own = home.folder.path().join("own.gguf");
    fs::write(&own, b"GGUF").unwrap();
    let folders = ["blobs", "", "../../hub"].map(|folder| home.repo().join(folder));
    for path in folders.iter().chain([&own]) {
        refused(&home.run(&["rm", path.to_str().unwrap()]), &["is not a model of headstart's", "delete it yourself"]);
    }
    refused(&home.run(&["rm", "acme/other"]), &["acme/other", "models ls"]);
    let freed = |args: &[&str]| -> serde_json::Value {
        let output = home.run(args);
        assert!(output.status.success(), "{}", error(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["bytes"].clone()
    };
    assert_eq!(freed(&["rm", &spec, "--json"]), 0);
    assert!(home.blob().is_file() && own.is_file() && !home.repo().join("refs/main").exists());
    refused(&home.run(&["rm", &spec]), &[&spec, "is not on this machine"]);
    assert_eq!(freed(&["rm", &format!("{spec}@older"), "--json"]), SIZE);
    assert!(!home.repo().exists());
    assert_eq!(home.run(&["ls", "--json"]).stdout.trim_ascii(), b"[]");
}
