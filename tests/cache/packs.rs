//! Packs that are passed on, and prefixes computed ahead.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Home, RULES, SHIP, WHALE, asked, files, length, reused, same};
use crate::cli::{headstart, json_of, refusal, stdout, str_of};
#[cfg(unix)]
use crate::support::give_away;
use crate::support::tiny_chat::{self, prompt};

const TINY: &str = "tiny-odd-f16";

/// Number of tokens that all conversations with this system text share: everything up to the first letter of a question.
fn system_tokens() -> usize {
    length(&asked("")) - prompt(&[]).len() - "\u{1}\n".len()
}

/// Exports the conversation in a file as a pack.
fn export(home: &Home, file: &Path, name: &str, flags: &[&str]) -> Vec<u8> {
    let pack = home.path(name);
    stdout(home.with_model(&["prefix", "export", str_of(file), "-o", str_of(&pack)]).args(flags));
    std::fs::read(pack).unwrap()
}

fn import<'a>(home: &Home, pack: &Path, flags: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = home.with_model(&["prefix", "import", str_of(pack)]);
    command.args(flags);
    command
}

#[test]
fn a_warmed_system_text_serves_every_question() {
    let home = Home::new(TINY);
    let system = home.file("system.json", &asked(WHALE)[..1]);
    let warmed = json_of(home.with_model(&["prefix", "warm", str_of(&system)]).arg("--json"));
    assert_eq!(warmed["tokens"], json!(system_tokens()));
    assert_eq!(warmed["cache"]["sources"]["computed"], warmed["tokens"]);
    // The whole prefix is reused, whatever the question begins with.
    for question in [WHALE, SHIP, " a space", "\na line", "1", "Ünder"] {
        let answer = json_of(&mut home.generate(question));
        reused(&answer, &[("disk", system_tokens())]);
        same(&answer, &home.cold(question));
    }
    // Nothing is computed twice.
    let again = json_of(home.with_model(&["prefix", "warm", str_of(&system)]).arg("--json"));
    assert_eq!((&again["id"], &again["cache"]["sources"]["disk"]), (&warmed["id"], &warmed["tokens"]));
    let said = stdout(&mut home.with_model(&["prefix", "warm", str_of(&system)]));
    assert_eq!(said, format!("{}  {} tokens\n", warmed["id"].as_str().unwrap(), system_tokens()));
}

#[test]
fn a_question_is_warmed_up_to_its_answer() {
    let home = Home::new(TINY);
    let file = home.file("asked.json", &asked(WHALE));
    let warmed = json_of(home.with_model(&["prefix", "warm", str_of(&file)]).arg("--json"));
    assert_eq!(warmed["tokens"], json!(length(&asked(WHALE))));
    let answer = json_of(&mut home.generate(WHALE));
    reused(&answer, &[("disk", length(&asked(WHALE)))]);
    same(&answer, &home.cold(WHALE));
    // A final answer is an example, after which another question follows.
    let example = [asked(WHALE)[0], asked(WHALE)[1], ("assistant", "Ishmael.")];
    let warmed = json_of(home.with_model(&["prefix", "warm", str_of(&home.file("b.json", &example))]).arg("--json"));
    let whole = length(&[example[0], example[1], example[2], ("user", "")]);
    assert_eq!(warmed["tokens"], json!(whole - length(&[]) - "\u{1}\n".len()));
}

#[test]
fn a_pack_serves_whether_imported_or_named() {
    for model in ["tiny-odd-f16", "tiny-wide-bf16", "tiny-wide-f32"] {
        let (giver, taker) = (Home::new(model), Home::new(model));
        let bytes = export(&giver, &giver.file("system.json", &asked(WHALE)[..1]), "rules.kv.safetensors", &[]);
        // The same bytes result when the prefix is loaded instead of computed.
        let again = export(&giver, &giver.path("system.json"), "rules.kv.safetensors", &[]);
        assert!(bytes == again, "{model}: equal prefixes are equal bytes");
        let pack = taker.path("taken.kv.safetensors");
        std::fs::write(&pack, &bytes).unwrap();

        let named = json_of(taker.generate(WHALE).args(["--prefix-pack", str_of(&pack)]));
        reused(&named, &[("pack", system_tokens())]);
        same(&named, &taker.cold(WHALE));
        let pack_tier = super::tier(&named, "pack");
        assert_eq!((&pack_tier["failures"], &pack_tier["dropped"]), (&json!(0), &json!(0)), "{model}: only read from");

        let imported = json_of(&mut import(&taker, &pack, ["--json"]));
        assert_eq!((&imported["name"], &imported["tokens"]), (&json!("rules"), &json!(system_tokens())));
        let warm = json_of(&mut taker.generate(SHIP));
        reused(&warm, &[("disk", system_tokens())]);
        same(&warm, &taker.cold(SHIP));
    }
}

#[test]
fn an_export_replaces_packs_alone() {
    let home = Home::new(TINY);
    let file = home.file("system.json", &asked(WHALE)[..1]);
    let export_to = |path: &Path| home.with_model(&["prefix", "export", str_of(&file), "-o", str_of(path)]);
    for other in [file.clone(), home.model.path().join("model.safetensors")] {
        let held = std::fs::read(&other).unwrap();
        let problem =
            format!("output: {} is there already, and is no pack: name another file with -o", other.display());
        assert_eq!(refusal(&mut export_to(&other)), problem);
        assert!(std::fs::read(&other).unwrap() == held);
    }
    assert!(refusal(&mut export_to(home.model.path())).contains("this is no file that could hold a pack"));
    let empty = home.path("empty.kv.safetensors");
    std::fs::write(&empty, "").unwrap();
    stdout(&mut export_to(&empty));
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let of = |path: &Path| path.metadata().map(|it| (it.mode() & 0o777, it.uid(), it.gid(), it.ino())).unwrap();
        // As any new file of this user, and not as the temporary one.
        let plain = home.path("plain");
        std::fs::write(&plain, "").unwrap();
        let fresh = home.path("fresh.kv.safetensors");
        stdout(&mut export_to(&fresh));
        assert_eq!(of(&fresh).0, of(&plain).0);
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o640)).unwrap();
        give_away(&empty);
        let link = home.path("link.kv.safetensors");
        symlink("empty.kv.safetensors", &link).unwrap();
        let before = of(&empty);
        stdout(&mut export_to(&link));
        let after = of(&empty);
        assert!(link.is_symlink() && after.3 != before.3, "the pack is written anew");
        assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
    }
}

#[test]
fn a_pack_tells_its_text_only_if_asked() {
    let home = Home::new(TINY);
    let file = home.file("system.json", &asked(WHALE)[..1]);
    let has_text = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(RULES);
    assert!(!has_text(&export(&home, &file, "a.kv.safetensors", &[])));
    assert!(has_text(&export(&home, &file, "a.kv.safetensors", &["--with-text"])));
}

#[test]
fn a_pack_of_another_model_or_setting_is_refused_by_name() {
    let (giver, other) = (Home::new(TINY), Home::new("tiny-wide-f32"));
    let file = giver.file("system.json", &asked(WHALE)[..1]);
    let pack = giver.path("rules.kv.safetensors");
    export(&giver, &file, "rules.kv.safetensors", &[]);
    let said = |command: &mut Command| {
        let message = refusal(command);
        let start = format!("{}: the pack was made with ", pack.display());
        message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}")).to_owned()
    };
    assert!(said(&mut import(&other, &pack, [])).starts_with("other weights: "));
    assert!(said(other.generate(WHALE).args(["--prefix-pack", str_of(&pack)])).starts_with("other weights: "));
    let quantized = said(&mut import(&giver, &pack, ["--quantize", "q8_0"]));
    assert!(quantized.starts_with("other weights: ") && quantized.contains("quantized=Q8_0"), "{quantized}");
    // The same weights with another configuration.
    let turned = Home::new(TINY);
    let config = turned.model.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("10000.0", "20000.0")).unwrap();
    assert!(said(&mut import(&turned, &pack, [])).starts_with("other RoPE settings: theta=10000"), "{text}");
    let salted = refusal(&mut import(&giver, &pack, ["--cache-salt", "mine"]));
    assert!(salted.contains("another salt") && !salted.contains("mine"), "{salted}");
    for home in [&other, &turned] {
        assert!(files(&home.dir(), ".safetensors").is_empty());
    }
    // A pack from kernels with other numerics is used under the same kernels; an import need not name them.
    let halves = export(&giver, &file, "halves.kv.safetensors", &["--kernels", "f16"]);
    assert!(!halves.is_empty());
    assert!(stdout(&mut giver.run(&["prefix", "ls"])).contains("computed in f16"));
    let pack = giver.path("halves.kv.safetensors");
    let message = refusal(giver.generate(WHALE).args(["--prefix-pack", str_of(&pack)]));
    assert!(message.contains("kernels that give other bits: f16 k16, here f32; run with the --kernels"), "{message}");
    let taken = json_of(giver.generate(WHALE).args(["--prefix-pack", str_of(&pack), "--kernels", "f16"]));
    assert!(taken["cache"]["sources"]["pack"].as_u64().unwrap() > 0, "{taken}");
    let imported = json_of(&mut import(&giver, &pack, ["--json"]));
    assert_eq!((&imported["kernels"], &imported["kv"]), (&json!("f16"), &json!("f16")));
    assert!(stdout(&mut import(&giver, &pack, [])).ends_with(" of halves, computed in f16\n"));
    // One that no run with the chosen kernels would use is refused.
    let plain = giver.path("rules.kv.safetensors");
    for (kernels, is_taken) in [("f16", false), ("int8", false), ("portable", true), ("auto", true)] {
        let output = import(&giver, &plain, ["--kernels", kernels]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), is_taken, "{kernels}: {said}");
        assert_eq!(said.contains("kernels that give other bits: f32, here "), !is_taken, "{kernels}: {said}");
    }
    // What flags choose is told at once.
    export(&giver, &file, "both.kv.safetensors", &["--kernels", "f16", "--kv", "q8"]);
    let pack = giver.path("both.kv.safetensors");
    let both = "the pack was made with another format of keys and values: q8, here f16, and with kernels that give other bits: \
                f16 k16, here f32; run with --kv";
    for command in
        [&mut import(&giver, &pack, ["--kernels", "f32"]), giver.generate(WHALE).args(["--prefix-pack", str_of(&pack)])]
    {
        let message = refusal(command);
        assert!(message.contains(both) && message.contains("; run with the --kernels"), "{message}");
    }
    let other = refusal(other.generate(WHALE).args(["--prefix-pack", str_of(&pack)]));
    assert!(
        ["other weights: ", "q8, here f16", "f16 k16, here f32"].iter().all(|part| other.contains(part)),
        "{other}"
    );
    // A pack is used under its own salt.
    let mine = export(&giver, &file, "mine.kv.safetensors", &["--cache-salt", "mine"]);
    assert!(!String::from_utf8_lossy(&mine).contains("handed"), "{mine:?}");
    let pack = giver.path("mine.kv.safetensors");
    assert!(refusal(&mut import(&turned, &pack, [])).contains("the pack was made"));
    json_of(&mut import(&giver, &pack, ["--cache-salt", "mine", "--json"]));
}

#[test]
fn a_pack_with_keys_and_values_in_8_bits_is_one_of_its_own() {
    let home = Home::new(TINY);
    let file = home.file("system.json", &asked(WHALE)[..1]);
    let whole = export(&home, &file, "f16.kv.safetensors", &[]);
    let half = export(&home, &file, "q8.kv.safetensors", &["--kv", "q8"]);
    assert!(half.len() < whole.len() * 7 / 10, "{} of {} bytes", half.len(), whole.len());
    // Neither serves the other, and the message says what to do.
    for (pack, kv, theirs) in
        [("q8.kv.safetensors", "f16", "q8, here f16"), ("f16.kv.safetensors", "q8", "f16, here q8")]
    {
        let pack = home.path(pack);
        let message = refusal(&mut import(&home, &pack, ["--kv", kv]));
        let wanted = format!("another format of keys and values: {theirs}; run with --kv as it was made");
        assert!(message.contains(&wanted), "{message}");
        assert!(refusal(home.generate(WHALE).args(["--kv", kv, "--prefix-pack", str_of(&pack)])).contains(&wanted));
    }
    let taker = Home::new(TINY);
    json_of(&mut import(&taker, &home.path("q8.kv.safetensors"), ["--kv", "q8", "--json"]));
    reused(&json_of(&mut taker.generate(WHALE)), &[]);
    let warm = json_of(taker.generate(SHIP).args(["--kv", "q8"]));
    reused(&warm, &[("disk", system_tokens())]);
    let arguments = ["generate", "--system", RULES, "-n", "8", "--json", "--no-cache", "--kv", "q8", "-p", SHIP];
    same(&warm, &json_of(headstart(&arguments).arg("--model").arg(taker.model.path())));
    let listed = taker.ls();
    let kept: BTreeSet<&str> =
        listed["prefixes"].as_array().unwrap().iter().map(|it| it["kv"].as_str().unwrap()).collect();
    assert!(kept.into_iter().eq(["f16", "q8"]), "{listed}");
    assert!(stdout(&mut taker.run(&["prefix", "ls"])).contains("kept in q8"));
}

/// What a format costs is told of any model and text.
#[test]
fn a_score_tells_what_8_bits_cost() {
    let home = Home::new(TINY);
    let of = |flags: &[&str]| {
        let mut command = headstart(&["score", WHALE]);
        command.arg("--model").arg(home.model.path()).args(flags);
        command
    };
    let [usual, halved] = [&["--json"][..], &["--json", "--kv", "q8"]].map(|flags| json_of(&mut of(flags)));
    assert!(usual.get("usual_perplexity").is_none());
    assert_eq!(halved["usual_perplexity"], usual["perplexity"]);
    let number = |value: &Value| value["perplexity"].as_f64().unwrap();
    let cost = 100.0 * (number(&halved) / number(&usual) - 1.0);
    assert!(cost != 0.0 && cost.abs() < 5.0, "{cost}");
    let said = stdout(&mut of(&["--kv", "q8"]));
    let wanted = format!("; without --kv q8 {:.4}, a cost of {cost:+.2} %\n", number(&usual));
    assert!(said.ends_with(&wanted), "{said}: {wanted}");
    // The kernels of the variable serve both.
    let [usual, halved] = [&["--json"][..], &["--json", "--kv", "q8"]]
        .map(|flags| json_of(of(flags).env("HEADSTART_KERNELS", "portable")));
    assert_eq!(halved["usual_perplexity"], usual["perplexity"]);
    // Prompts in 8 bits are compared with the same weights.
    let quantised = ["--quantize", "q8_0", "--json"];
    let usual = json_of(&mut of(&quantised));
    let [alone, both] = [&["--kernels", "int8"][..], &["--kernels", "int8", "--kv", "q8"]]
        .map(|flags| json_of(&mut of(&[&quantised[..], flags].concat())));
    assert!([&alone, &both].iter().all(|bytes| bytes["usual_perplexity"] == usual["perplexity"]), "{alone} {both}");
    let [usual, alone, both] = [&usual, &alone, &both].map(number);
    assert!(alone != usual && both != alone && (both / usual - 1.0).abs() < 0.05, "{usual} {alone} {both}");
}

#[test]
fn a_damaged_pack_is_refused_wherever_it_is_damaged() {
    let home = Home::new(TINY);
    let bytes = export(&home, &home.file("system.json", &asked(WHALE)[..1]), "rules.kv.safetensors", &[]);
    let taker = Home::new(TINY);
    let pack = taker.path("bad.kv.safetensors");
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut cases: Vec<(String, Vec<u8>)> = [0, 7, 8, 8 + header / 2, 8 + header, 8 + header + 300, bytes.len() - 1]
        .into_iter()
        .map(|at| {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            (format!("byte {at}"), bad)
        })
        .collect();
    cases.extend([0, 5, 8, 100, bytes.len() - 1].map(|end| (format!("cut to {end}"), bytes[..end].to_vec())));
    cases.push(("longer".into(), [&bytes[..], &[0]].concat()));
    // Absurd sizes.
    cases.push(("a huge header".into(), [&u64::MAX.to_le_bytes()[..], &bytes[8..]].concat()));
    cases.push(("no pack".into(), b"{\"role\": \"system\"}".to_vec()));
    for (what, bad) in cases {
        std::fs::write(&pack, bad).unwrap();
        for command in [&mut import(&taker, &pack, []), taker.generate(WHALE).args(["--prefix-pack", str_of(&pack)])] {
            let message = refusal(command);
            assert!(message.starts_with(str_of(&pack)), "{what}: {message}");
        }
        assert!(files(&taker.dir(), ".safetensors").is_empty(), "{what}");
    }
    let absent = refusal(&mut import(&taker, Path::new("/no/such/pack"), []));
    assert!(absent.starts_with("/no/such/pack: "), "{absent}");
    let folder = refusal(&mut import(&taker, taker.model.path(), []));
    assert!(folder.starts_with(str_of(taker.model.path())), "{folder}");
}

#[test]
fn a_failed_warm_import_or_export_gives_the_reason() {
    let home = Home::new(TINY);
    let system = home.file("system.json", &asked(WHALE)[..1]);
    let full = refusal(home.with_model(&["prefix", "warm", str_of(&system)]).args(["--cache-budget", "8KB"]));
    assert!(full.starts_with(str_of(&home.dir())) && full.contains("only 0 of "), "{full}");
    let pack = home.path("rules.kv.safetensors");
    export(&home, &system, "rules.kv.safetensors", &[]);
    let full = refusal(&mut import(&Home::new(TINY), &pack, ["--cache-budget", "8KB"]));
    assert!(full.contains("only 0 of ") && full.contains("give the cache more room"), "{full}");
    let nowhere = home.path("no/such/folder/x.kv.safetensors");
    let message = refusal(&mut home.with_model(&["prefix", "export", str_of(&system), "-o", str_of(&nowhere)]));
    assert!(message.starts_with(&format!("{}: no such folder", nowhere.parent().unwrap().display())), "{message}");
    tiny_chat::set_template(home.model.path(), "{{ messages[-1].content }}{{ messages[0].content }}");
    let message = refusal(&mut home.with_model(&["prefix", "warm", str_of(&system)]));
    assert!(message.contains("begins with what is asked"), "{message}");
    let absent = refusal(&mut home.with_model(&["prefix", "warm", "/no/such.json"]));
    assert!(absent.starts_with("/no/such.json: "), "{absent}");
    let mut long: Value = json!([{ "role": "system", "content": "x".repeat(600) }]);
    std::fs::write(&system, long.take().to_string()).unwrap();
    tiny_chat::set_template(home.model.path(), "{{ messages[0].content }}{{ messages[-1].content }}");
    let message = refusal(&mut home.with_model(&["prefix", "warm", str_of(&system)]));
    assert!(message.contains("the context holds 512"), "{message}");
}

#[test]
fn usage_errors_are_reported_before_any_work() {
    let cases: [&[&str]; 9] = [
        &["prefix"],
        &["prefix", "warm"],
        &["prefix", "export", "a.json"],
        &["prefix", "import"],
        &["prefix", "rm"],
        &["prefix", "rm", "abc", "--all"],
        &["prefix", "pin", "a.json"],
        &["prefix", "warm", "a.json", "--cache-budget", "lots"],
        &["prefix", "warm", "a.json", "--cache-ttl", "soon"],
    ];
    for arguments in cases {
        let output = headstart(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
