//! Whose KV is reused: only one's own, or that of a trusted signer; and how packs are audited.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{BLOCK, Home, SHIP, WHALE, asked, files, length, reused, same, tier};
use crate::cli::{json_of, refusal, stdout, str_of};
use crate::support::blob::{forged, regions};

const TINY: &str = "tiny-odd-f16";

/// A model that reads 4,096 tokens.
fn home() -> Home {
    let home = Home::new(TINY);
    let path = home.model.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(4096);
    fs::write(path, config.to_string()).unwrap();
    home
}

/// A pack of a system text of more than 100 blocks.
fn long_pack(home: &Home, flags: &[&str]) -> (Vec<u8>, Value) {
    let text: String = (0..190).map(|i| format!("Rule {i}. ")).collect();
    let file = home.file("long.json", &[("system", &text)]);
    let pack = home.path("long.kv.safetensors");
    let mut command = home.with_model(&["prefix", "export", str_of(&file), "-o", str_of(&pack), "--json"]);
    let told = json_of(command.args(flags));
    (fs::read(pack).unwrap(), told)
}

fn audit(home: &Home, pack: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = home.with_model(&["prefix", "audit", str_of(pack)]);
    command.args(flags);
    command
}

#[test]
fn a_forged_block_in_the_directory_changes_no_answer() {
    let home = Home::new(TINY);
    let first = json_of(&mut home.generate(WHALE));
    for path in files(&home.dir(), ".safetensors") {
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, forged(&whole, whole.len() - 1, 3)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    }
    let after = json_of(&mut home.generate(WHALE));
    same(&after, &first);
    let told = tier(&after, "disk");
    assert!(told["rejected"]["forged"].as_u64().is_some_and(|forged| forged > 0), "{told}");
    reused(&json_of(&mut home.generate(WHALE)), &[("disk", length(&asked(WHALE)))]);

    // KV stored under a lost key counts as somebody else's.
    fs::remove_file(home.path("kv.key")).unwrap();
    let other = json_of(&mut home.generate(WHALE));
    same(&other, &first);
    reused(&other, &[]);
    // Without a place for the key the directory is not used, and a note says so.
    let mut command = home.with_model(&["generate", "-n", "1", "-p", SHIP]);
    let output = command.env("HEADSTART_KV_KEY", "/dev/null/kv.key").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("/dev/null/kv.key") && said.contains("kv-key"), "{said}");
    let system = home.file("system.json", &asked(WHALE)[..1]);
    let mut warm = home.with_model(&["prefix", "warm", str_of(&system)]);
    assert!(refusal(warm.env("HEADSTART_KV_KEY", "/dev/null/kv.key")).contains("the secret in /dev/null/kv.key"));
}

#[test]
fn a_pack_is_accepted_from_trusted_signers_alone() {
    let home = Home::new(TINY);
    let file = home.file("system.json", &asked(WHALE)[..1]);
    let export = |name: &str, flags: &[&str]| {
        let pack = home.path(name);
        let mut command = home.with_model(&["prefix", "export", str_of(&file), "-o", str_of(&pack), "--json"]);
        (json_of(command.args(flags)), pack)
    };
    let (unsigned, plain) = export("plain.kv.safetensors", &[]);
    assert_eq!(unsigned["key"], Value::Null);
    let [maker, stranger] = ["maker.key", "stranger.key"].map(|name| home.path(name));
    let (told, signed) = export("signed.kv.safetensors", &["--sign", str_of(&maker)]);
    let (again, _) = export("again.kv.safetensors", &["--sign", str_of(&maker)]);
    let (other, by_other) = export("other.kv.safetensors", &["--sign", str_of(&stranger)]);
    let [key, other] = [&told, &other].map(|told| told["key"].as_str().unwrap().to_owned());
    assert!(key == again["key"] && key != other && key.len() == 64);

    let taker = Home::new(TINY);
    let cold = taker.cold(WHALE);
    let generate = |pack: &Path, trust: &[&str]| {
        let mut command = taker.generate(WHALE);
        command.args(["--prefix-pack", str_of(pack)]);
        command.args(trust.iter().flat_map(|key| ["--trust", key]));
        command
    };
    let capitals = key.to_uppercase();
    for (pack, trust) in [
        (&signed, vec![&*key]),
        (&signed, vec![&*capitals]),
        (&signed, vec![&*other, &*key]),
        (&signed, vec![]),
        (&plain, vec![]),
    ] {
        same(&json_of(&mut generate(pack, &trust)), &cold);
    }
    assert!(refusal(&mut generate(&plain, &[&key])).contains("not signed"));
    assert!(refusal(&mut generate(&by_other, &[&key])).contains("nobody whose key is trusted"));
    let trusting = ["--sign", str_of(&maker), "--kv-store", "redis://127.0.0.1:1", "--kv-store-trust"];
    let mut command = home.with_model(&["prefix", "export", str_of(&file), "-o", "x.kv.safetensors"]);
    assert!(refusal(command.args(trusting)).contains("a signature vouches"));
    let mut import = taker.with_model(&["prefix", "import", str_of(&plain), "--trust", &key]);
    assert!(refusal(&mut import).contains("not signed"));
    // One bit changed and the digest recomputed: the signature belongs to another digest.
    let whole = fs::read(&signed).unwrap();
    let changed = home.path("changed.kv.safetensors");
    fs::write(&changed, forged(&whole, whole.len() - 1, 0)).unwrap();
    assert!(refusal(&mut generate(&changed, &[&key])).contains("nobody whose key is trusted"));
    let signature = &regions(&whole)["value of signature"];
    let mut bytes = whole.clone();
    bytes[signature.start + 9] ^= 1;
    fs::write(&changed, bytes).unwrap();
    let told = refusal(&mut generate(&changed, &[&key]));
    assert!(told.contains("nobody whose key is trusted") || told.contains("header"), "{told}");
}

#[test]
fn an_audit_finds_one_changed_bit_and_passes_true_packs() {
    let home = home();
    let (whole, told) = long_pack(&home, &[]);
    let tokens = told["tokens"].as_u64().unwrap() as usize;
    let blocks = tokens.div_ceil(BLOCK);
    assert!(blocks >= 100, "{tokens} tokens");
    let (auditor, pack) = (self::home(), home.path("long.kv.safetensors"));
    let found = json_of(&mut audit(&auditor, &pack, &["--json"]));
    assert_eq!((&found["exact"], &found["blocks"], &found["largest"]), (&json!(true), &json!(blocks), &json!(0.0)));
    let checked: Vec<u64> = found["checked"].as_array().unwrap().iter().map(|block| block.as_u64().unwrap()).collect();
    assert!(checked.len() == 8 && checked.is_sorted_by(|a, b| a < b) && checked[7] < blocks as u64, "{checked:?}");
    let other = json_of(&mut audit(&auditor, &pack, &["--json"]));
    assert_ne!(found["checked"], other["checked"], "two audits chose the same of {blocks} blocks");
    let all = blocks.to_string();
    let said = stdout(&mut audit(&auditor, &pack, &["--blocks", &all]));
    assert!(said.contains(&format!("{all} of {all} blocks are what this machine computes, bit for bit")), "{said}");
    assert!(files(&auditor.dir(), ".safetensors").is_empty(), "an audit keeps nothing");

    // The lowest bit of a value in the first layer's K of block 57.
    let regions = regions(&whole);
    let k = &regions["k.0"];
    let at = k.start + k.len() / tokens * (57 * BLOCK + 3);
    let changed = home.path("changed.kv.safetensors");
    fs::write(&changed, forged(&whole, at, 0)).unwrap();
    let problem = refusal(&mut audit(&auditor, &changed, &["--blocks", &all]));
    assert!(problem.contains("block 57, tokens 912 to 927, is not what this machine computes"), "{problem}");
    // The hidden state after the last token belongs to the last block.
    fs::write(&changed, forged(&whole, regions["last_hidden"].start, 0)).unwrap();
    let problem = refusal(&mut audit(&auditor, &changed, &["--blocks", &all]));
    assert!(problem.contains(&format!("block {}", blocks - 1)), "{problem}");

    // A pack that claims another adapter is still judged bit for bit, unless `--other-adapter` is given.
    let foreign = String::from_utf8_lossy(&whole[regions["value of device"].clone()]).into_owned();
    let lie = whole.clone();
    let at = regions["value of device"].start + 1;
    let lie =
        forged(&[&lie[..at], &[lie[at] ^ 1], &lie[at + 1..]].concat(), k.start + k.len() / tokens * 57 * BLOCK, 0);
    fs::write(&changed, &lie).unwrap();
    let problem = refusal(&mut audit(&auditor, &changed, &["--blocks", &all]));
    assert!(problem.contains("block 57,") && problem.starts_with(str_of(&changed)), "{foreign}: {problem}");
    let rough = json_of(&mut audit(&auditor, &changed, &["--blocks", &all, "--other-adapter", "--json"]));
    assert!(rough["exact"] == false && rough["largest"].as_f64().is_some_and(|apart| apart > 0.0), "{rough}");
    // A changed exponent is more than another adapter can explain.
    fs::write(&changed, forged(&lie, k.start + k.len() / tokens * 57 * BLOCK + 1, 2)).unwrap();
    let problem = refusal(&mut audit(&auditor, &changed, &["--blocks", &all, "--other-adapter"]));
    assert!(problem.contains("block 57,"), "{problem}");

    assert!(refusal(&mut audit(&auditor, &pack, &["--cache-salt", "other"])).contains("another salt"));
    let another = Home::new("tiny-wide-f32");
    assert!(refusal(&mut audit(&another, &pack, &[])).contains("made with"));
}
