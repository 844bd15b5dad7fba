//! Checkpoints of both kinds: their content, and that every kind of damage is reported by name.

use headstart::{
    error::{Error, Result},
    model::{Config, LayerRole, Role},
    quant::Format,
    weights::{ByteSource, Checkpoint, Fields, FileSource, Kind, MemorySource, Metadata},
};
use pollster::block_on;

use crate::checkpoints::{
    gguf::{Gguf, Meta},
    model_path, safetensors as st, tiny,
};

fn open_gguf(bytes: impl Into<Vec<u8>>) -> Result<Checkpoint> {
    block_on(Checkpoint::gguf(Box::new(MemorySource::new("tiny.gguf", bytes))))
}

fn open_directory(directory: &st::Directory) -> Result<Checkpoint> {
    block_on(Checkpoint::safetensors("dir", st::sources(directory)))
}

/// Checks that a result is an error whose message contains all `parts`.
#[track_caller]
fn refused<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn tiny_gguf() -> Gguf {
    tiny::gguf(&tiny::config(), Format::Q8_0)
}

#[test]
fn a_gguf_file_gives_its_tensors_by_rows() {
    let config = tiny::config();
    let checkpoint = open_gguf(tiny_gguf().build()).unwrap();
    assert_eq!(checkpoint.kind(), Kind::Gguf);
    assert_eq!(checkpoint.tensors.len(), config.roles().len());
    let role = Role::Layer(1, LayerRole::K);
    let tensor = config.tensor(&checkpoint, role).unwrap();
    assert_eq!((&tensor.shape[..], tensor.format), (&[32, 64][..], Format::Q8_0));
    let raw = Format::Q8_0.quantize(&tiny::elements(&config, role));
    assert_eq!(block_on(checkpoint.read_rows(tensor, 0..32)).unwrap(), raw);
    assert_eq!(block_on(checkpoint.read_rows(tensor, 3..5)).unwrap(), raw[3 * 68..5 * 68]);
    assert_eq!(block_on(checkpoint.read_rows(tensor, 32..32)).unwrap(), [0; 0]);
    refused(block_on(checkpoint.read_rows(tensor, 31..33)), &["tiny.gguf", "blk.1.attn_k.weight", "32 rows"]);
    let norm = config.tensor(&checkpoint, Role::FinalNorm).unwrap();
    assert_eq!((norm.rows(), norm.cols()), (1, 64));
    assert_eq!(block_on(checkpoint.read_f32(norm)).unwrap(), tiny::elements(&config, Role::FinalNorm));
}

#[test]
fn versions_2_and_3_and_other_alignments_give_the_same_tensors() {
    for (version, alignment) in [(2, 32), (3, 64), (3, 8)] {
        let mut file = tiny_gguf();
        file.version = version;
        file.alignment = alignment;
        file.set("general.alignment", alignment as u32);
        let checkpoint = open_gguf(file.build()).unwrap();
        let tensor = tiny::config().tensor(&checkpoint, Role::FinalNorm).unwrap().clone();
        let expected = tiny::elements(&tiny::config(), Role::FinalNorm);
        assert_eq!(block_on(checkpoint.read_f32(&tensor)).unwrap(), expected, "v{version}, {alignment}");
    }
}

#[test]
fn metadata_of_every_type_is_read_by_typed_getters() {
    let mut file = Gguf::default();
    file.set("u8", Meta::U8(200)).set("i32", Meta::I32(-3)).set("u64", Meta::U64(u64::MAX));
    file.set("f32", 0.5f32).set("f64", Meta::F64(0.1)).set("bool", Meta::Bool(true)).set("str", "naïve");
    file.set("strings", Meta::Strings(vec!["a".into(), String::new()]));
    file.set("i32s", Meta::I32s(vec![-1, 7])).set("f32s", Meta::F32s(vec![1.5])).set("nan", f32::NAN);
    file.set("nans", Meta::F32s(vec![0.0, f32::INFINITY]));
    file.set("i8", Meta::Raw(1, vec![0xff])).set("i16", Meta::Raw(3, vec![0xfe, 0xff]));
    file.set("i64", Meta::Raw(11, (-9i64).to_le_bytes().to_vec())).set("u16", Meta::Raw(2, vec![0, 1]));
    let checkpoint = open_gguf(file.build()).unwrap();
    let Metadata::Gguf(meta) = &checkpoint.metadata else { panic!("not GGUF") };
    assert_eq!(
        (meta.u32("u8").unwrap(), meta.u32("u16").unwrap(), meta.u32("none").unwrap()),
        (Some(200), Some(256), None)
    );
    assert_eq!(meta.u64("u64").unwrap(), Some(u64::MAX));
    let signed = ["i8", "i16", "i32", "i64"].map(|key| meta.f64(key).unwrap());
    assert_eq!(signed, [Some(-1.0), Some(-2.0), Some(-3.0), Some(-9.0)]);
    assert_eq!((meta.f64("f32").unwrap(), meta.f64("f64").unwrap()), (Some(0.5), Some(0.1)));
    assert_eq!((meta.bool("bool").unwrap(), meta.str("str").unwrap()), (Some(true), Some("naïve")));
    assert_eq!(meta.strings("strings").unwrap().unwrap(), ["a", ""]);
    assert_eq!((meta.i32s("i32s").unwrap().unwrap(), meta.f32s("f32s").unwrap().unwrap()), (vec![-1, 7], vec![1.5]));

    refused(meta.u32("u64"), &["tiny.gguf", "u64", "32 bits"]);
    refused(meta.u32("i32"), &["tiny.gguf", "i32", "not negative", "-3"]);
    refused(meta.u32("str"), &["tiny.gguf", "str", "an integer", "naïve"]);
    refused(meta.str("u8"), &["tiny.gguf", "u8", "a string", "200"]);
    refused(meta.bool("strings"), &["tiny.gguf", "strings", "true or false", "array of strings"]);
    refused(meta.f64("nan"), &["tiny.gguf", "nan", "a finite number", "NaN"]);
    refused(meta.f32s("nans"), &["tiny.gguf", "nans", "element 1", "inf"]);
    refused(meta.strings("i32s"), &["tiny.gguf", "i32s", "array of strings", "array of numbers"]);
    refused(meta.i32s("none").and_then(|x| meta.required("none", x)), &["tiny.gguf", "none", "missing"]);
}

#[test]
fn files_that_are_not_gguf_are_named_so() {
    refused(open_gguf([]), &["tiny.gguf", "magic", "empty", "download"]);
    refused(open_gguf(*b"GG"), &["tiny.gguf", "magic", "ends at byte 2"]);
    refused(open_gguf(*b"<!DOCTYPE html>"), &["tiny.gguf", "magic", "not a GGUF file", "<!DO", "give a .gguf file"]);
    let version = |version| {
        let mut file = tiny_gguf();
        file.version = version;
        open_gguf(file.build())
    };
    refused(version(1), &["tiny.gguf", "GGUF version 1 is not supported", "version 2 or 3"]);
    refused(version(3u32.swap_bytes()), &["tiny.gguf", "big-endian"]);
}

#[test]
fn a_gguf_header_cut_anywhere_is_refused() {
    let mut file = tiny_gguf();
    file.tensors.truncate(3);
    let whole = file.build();
    assert!(open_gguf(whole.clone()).is_ok());
    for len in 0..whole.len() - 32 {
        let error = open_gguf(&whole[..len]).err().unwrap_or_else(|| panic!("{len} bytes were accepted"));
        assert!(error.to_string().starts_with("tiny.gguf: "), "{error}");
    }
    refused(open_gguf(&whole[..whole.len() - 100]), &["tiny.gguf", "tensor ", "the file has", "cut short"]);
}

#[test]
fn gguf_counts_beyond_the_file_are_refused() {
    let build = |edit: &dyn Fn(&mut Gguf)| {
        let mut file = tiny_gguf();
        edit(&mut file);
        open_gguf(file.build())
    };
    refused(build(&|file| file.tensor_count = Some(1 << 60)), &["tiny.gguf", "tensor count", "claims"]);
    refused(build(&|file| file.key_count = Some(u64::MAX)), &["tiny.gguf", "metadata count", "claims"]);
    let huge = |kind: u32| [kind.to_le_bytes().to_vec(), (1u64 << 61).to_le_bytes().to_vec()].concat();
    refused(build(&|f| _ = f.set("list", Meta::Raw(9, huge(4)))), &["tiny.gguf", "list", "numbers"]);
    refused(build(&|f| _ = f.set("list", Meta::Raw(9, huge(8)))), &["tiny.gguf", "list", "strings"]);
    refused(build(&|f| _ = f.set("list", Meta::Raw(9, huge(9)))), &["tiny.gguf", "list", "array of arrays"]);
    refused(build(&|f| _ = f.set("list", Meta::Raw(9, huge(77)))), &["tiny.gguf", "list", "unknown type 77"]);
    refused(build(&|f| _ = f.set("x", Meta::Raw(13, vec![]))), &["tiny.gguf", "x", "unknown type 13"]);
    refused(build(&|f| _ = f.set("x", Meta::Raw(7, vec![2]))), &["tiny.gguf", "x", "boolean"]);
    let long = (1u64 << 40).to_le_bytes().to_vec();
    refused(build(&|f| _ = f.set("text", Meta::Raw(8, long.clone()))), &["tiny.gguf", "text", "claims"]);
    let latin = [1u64.to_le_bytes().to_vec(), vec![0xe9]].concat();
    refused(build(&|f| _ = f.set("text", Meta::Raw(8, latin.clone()))), &["tiny.gguf", "text", "UTF-8"]);
    refused(build(&|f| f.meta.push(("llama.vocab_size".into(), 1.into()))), &["llama.vocab_size", "twice"]);
    for alignment in [0, 24, 1 << 30] {
        refused(build(&|f| _ = f.set("general.alignment", alignment)), &["general.alignment", "power of two"]);
    }
    refused(build(&|f| _ = f.set("general.alignment", "32")), &["tiny.gguf", "general.alignment", "an integer"]);
}

#[test]
fn impossible_gguf_tensors_are_refused() {
    const NAME: &str = "blk.0.attn_q.weight";
    let build = |edit: &dyn Fn(&mut crate::checkpoints::gguf::Tensor)| {
        let mut file = tiny_gguf();
        edit(file.tensor_mut(NAME));
        open_gguf(file.build())
    };
    refused(build(&|t| t.shape = vec![]), &["tiny.gguf", NAME, "0 dimensions"]);
    refused(build(&|t| t.shape = vec![1, 1, 1, 64, 64]), &["tiny.gguf", NAME, "5 dimensions"]);
    refused(build(&|t| t.shape = vec![0, 64]), &["tiny.gguf", NAME, "a size is 0"]);
    refused(build(&|t| t.shape = vec![1 << 40, 1 << 40]), &["tiny.gguf", NAME, "more elements"]);
    refused(build(&|t| t.shape = vec![1 << 30, 64]), &["tiny.gguf", NAME, "the file has"]);
    refused(build(&|t| t.shape = vec![64, 40]), &["tiny.gguf", NAME, "rows of 40", "32", "q8_0"]);
    refused(build(&|t| t.offset = Some(7)), &["tiny.gguf", NAME, "offset 7", "alignment 32"]);
    refused(build(&|t| t.offset = Some(1 << 40)), &["tiny.gguf", NAME, "the file has"]);
    refused(build(&|t| t.offset = Some(u64::MAX - 31)), &["tiny.gguf", NAME, "the file has"]);
    refused(build(&|t| t.offset = Some(32)), &["tiny.gguf", "overlap", NAME]);
    refused(build(&|t| t.name = "token_embd.weight".into()), &["tiny.gguf", "token_embd.weight", "twice"]);
    for (kind, name) in [(29, "iq1_m"), (30_000, "number 30000")] {
        let error = build(&|t| t.kind = kind).unwrap().find(NAME).expect_err("refused");
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        refused::<()>(Err(error), &["tiny.gguf", NAME, name, "q4_1", "q8_0"]);
    }
}

#[test]
fn a_directory_gives_its_tensors_whole_and_in_shards() {
    let config = tiny::config();
    let mut directory = tiny::directory(&config);
    let whole = open_directory(&directory).unwrap();
    assert_eq!(whole.kind(), Kind::HuggingFace);

    let roles = config.roles();
    let (first, second) = roles.split_at(7);
    directory.remove("model.safetensors");
    directory.insert("a.safetensors".into(), tiny::safetensors(&config, first));
    directory.insert("b.safetensors".into(), tiny::safetensors(&config, second));
    directory.insert("model.safetensors.index.json".into(), index(&[(first, "a"), (second, "b")]));
    let sharded = open_directory(&directory).unwrap();
    assert_eq!(sharded.parts.len(), 2);
    for role in roles {
        let expected = tiny::elements(&config, role);
        for checkpoint in [&whole, &sharded] {
            let tensor = config.tensor(checkpoint, role).unwrap();
            assert_eq!(block_on(checkpoint.read_f32(tensor)).unwrap(), expected, "{role:?}");
        }
    }
}

fn index(shards: &[(&[Role], &str)]) -> Vec<u8> {
    let names = shards.iter().flat_map(|(roles, shard)| {
        roles.iter().map(move |role| (role.name(Kind::HuggingFace), format!("{shard}.safetensors").into()))
    });
    let map: serde_json::Map<String, serde_json::Value> = names.collect();
    serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string().into_bytes()
}

#[test]
fn a_forged_index_is_refused() {
    let config = tiny::config();
    let roles = config.roles();
    let mut directory = tiny::directory(&config);
    let shard = directory.remove("model.safetensors").unwrap();
    const INDEX: &str = "model.safetensors.index.json";
    let mut build = |index: &[u8]| {
        directory.insert(INDEX.into(), index.to_vec());
        open_directory(&directory)
    };
    for path in ["../a", "/etc/a", "a/b", "c:a", "..\\a"] {
        refused(build(&index(&[(&roles, path)])), &["dir/model.safetensors.index.json", "plain file name", "forged"]);
    }
    refused(build(b"{\"weight_map\": {\"x\": \"\"}}"), &[INDEX, "weight_map.x", "plain file name"]);
    refused(build(b"{\"weight_map\": {\"x\": \"..\"}}"), &[INDEX, "weight_map.x", "plain file name"]);
    refused(build(&index(&[(&roles, "a")])), &["dir", "a.safetensors", "missing", "download"]);
    refused(build(b"{\"weight_map\": {\"x\": 3}}"), &[INDEX, "weight_map", "string"]);
    refused(build(b"{\"weight_map\": {}}"), &[INDEX, "weight_map", "no tensor"]);
    refused(build(b"{\"weight_map\": {\"x\": \"a\", \"x\": \"a\"}}"), &[INDEX, "weight_map.x", "twice"]);
    refused(build(b"[]"), &[INDEX, "weight_map"]);
    directory.insert("a.safetensors".into(), shard);
    let mut lying = index(&[(&roles, "a")]);
    lying = String::from_utf8(lying).unwrap().replace("model.norm.weight", "model.norm.wait").into_bytes();
    directory.insert(INDEX.into(), lying);
    refused(open_directory(&directory), &[INDEX, "weight_map.model.norm.wait", "no such tensor"]);
}

#[test]
fn a_damaged_safetensors_header_is_refused() {
    const FILE: &str = "dir/model.safetensors";
    let open = |bytes: Vec<u8>| {
        let mut directory = tiny::directory(&tiny::config());
        directory.insert("model.safetensors".into(), bytes);
        open_directory(&directory)
    };
    let entry = |name: &str, dtype: &str, shape: &str, start: u64, end: u64| {
        format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
    };
    let header = |entries: &[String]| format!("{{{}}}", entries.join(","));
    let one = |entry: String, data: usize| open(st::file(&header(&[entry]), &vec![0; data]));

    assert!(one(entry("w", "F32", "[2,2]", 0, 16), 16).is_ok());
    assert!(one(entry("scalar", "F32", "[]", 0, 4), 4).is_ok());
    refused(open(vec![]), &[FILE, "header length", "0 bytes"]);
    refused(open(vec![1, 0, 0]), &[FILE, "header length", "3 bytes"]);
    refused(open(u64::MAX.to_le_bytes().to_vec()), &[FILE, "header length", "more than"]);
    refused(open(99u64.to_le_bytes().to_vec()), &[FILE, "header length", "the file has 8"]);
    refused(open(st::file("{", &[])), &[FILE, "header", "EOF"]);
    refused(open(st::file("[]", &[])), &[FILE, "header", "an object"]);
    refused(open(st::file("\u{fffd}", &[])), &[FILE, "header"]);
    refused(one("\"w\": 3".into(), 0), &[FILE, "tensor w", "invalid type"]);
    refused(one("\"w\": {\"dtype\":\"F32\"}".into(), 0), &[FILE, "tensor w", "missing field"]);
    refused(one(entry("w", "F32", "[-1]", 0, 4), 4), &[FILE, "tensor w", "invalid value"]);
    refused(one(entry("w", "F32", "[1.5]", 0, 4), 4), &[FILE, "tensor w", "invalid type"]);
    refused(one(entry("w", "F32", "[0]", 0, 0), 0), &[FILE, "tensor w", "a size is 0"]);
    refused(one(entry("w", "F32", "[4294967296,4294967296]", 0, 4), 4), &[FILE, "tensor w", "more elements"]);
    refused(one(entry("w", "F32", "[2]", 0, 4), 4), &[FILE, "tensor w", "4 bytes", "take 8"]);
    refused(one(entry("w", "F32", "[2]", 0, 8), 4), &[FILE, "tensor w", "data_offsets", "cut short"]);
    refused(one(entry("w", "F32", "[1]", 4, 0), 4), &[FILE, "tensor w", "data_offsets"]);
    refused(one(entry("w", "F32", "[1]", 4, 8), 8), &[FILE, "tensor w", "hole"]);
    refused(one(entry("w", "F32", "[1]", 0, 4), 9), &[FILE, "file length", "5 bytes"]);
    let two = |a: String, b: String| open(st::file(&header(&[a, b]), &[0; 12]));
    let (a, overlapping) = (entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[2]", 4, 12));
    refused(two(a.clone(), overlapping), &[FILE, "tensor b", "overlaps"]);
    refused(two(a.clone(), a), &[FILE, "tensor a", "twice"]);
}

#[test]
fn tensors_of_unsupported_types_fail_only_when_used() {
    let config = tiny::config();
    let name = Role::FinalNorm.name(Kind::HuggingFace);
    let header = format!("{{\"{name}\":{{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}}}");
    let mut directory = tiny::directory(&config);
    directory.insert("model.safetensors".into(), st::file(&header, &[0; 8]));
    let checkpoint = open_directory(&directory).unwrap();
    let error = config.tensor(&checkpoint, Role::FinalNorm).expect_err("refused");
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    refused::<()>(Err(error), &["dir", "I64", &name, "BF16"]);
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let config = tiny::config();
    let mut file = tiny_gguf();
    file.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    let checkpoint = open_gguf(file.build()).unwrap();
    refused(config.check_tensors(&checkpoint), &["tiny.gguf", "blk.1.ffn_up.weight", "[96, 64]", "none"]);

    let wider = Config { hidden: 128, ..config.clone() };
    let checkpoint = open_gguf(tiny_gguf().build()).unwrap();
    refused(wider.check_tensors(&checkpoint), &["tiny.gguf", "token_embd.weight", "[40, 128]", "[40, 64]"]);
    assert!(config.check_tensors(&checkpoint).is_ok());
    assert!(config.optional_tensor(&checkpoint, Role::RopeFactors).unwrap().is_none());
}

#[test]
fn paths_without_a_model_are_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let text = path.display().to_string();
    let open = |name: &str| block_on(Checkpoint::open(path.join(name)));
    refused(open("none.gguf"), &[&text, "none.gguf"]);
    refused(open(""), &[&text, "config.json", "missing", "give a .gguf file"]);
    std::fs::write(path.join("m.gguf"), []).unwrap();
    refused(open("m.gguf"), &[&text, "m.gguf", "empty"]);
    refused(open(""), &[&text, "config.json", "give the .gguf file itself"]);
    std::fs::write(path.join("config.json"), "{").unwrap();
    refused(open(""), &[&text, "config.json", "JSON", "EOF"]);
    std::fs::write(path.join("config.json"), "[]").unwrap();
    refused(open(""), &[&text, "config.json", "not an object"]);
    std::fs::write(path.join("config.json"), "{}").unwrap();
    refused(open(""), &[&text, "model.safetensors", "missing", "download"]);
    std::fs::write(path.join("pytorch_model.bin"), "{}").unwrap();
    refused(open(""), &[&text, "model.safetensors", "convert"]);
    for (name, bytes) in tiny::directory(&tiny::config()) {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    std::fs::write(path.join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert_eq!(open("").unwrap().chat_template().unwrap(), Some("{{ messages }}"));
}

#[test]
fn chat_templates_are_found_wherever_they_are_stored() {
    let config = tiny::config();
    let mut file = tiny::gguf(&config, Format::F32);
    assert_eq!(open_gguf(file.build()).unwrap().chat_template().unwrap(), None);
    file.set("tokenizer.chat_template", "from gguf");
    assert_eq!(open_gguf(file.build()).unwrap().chat_template().unwrap(), Some("from gguf"));

    let mut directory = tiny::directory(&config);
    for (json, expected) in [
        (r#"{"chat_template": "one"}"#, Some("one")),
        (r#"{"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}]}"#, Some("b")),
        (r#"{"chat_template": null}"#, None),
    ] {
        directory.insert("tokenizer_config.json".into(), json.into());
        assert_eq!(open_directory(&directory).unwrap().chat_template().unwrap(), expected);
    }
    directory.insert("tokenizer_config.json".into(), r#"{"chat_template": 3}"#.into());
    refused(open_directory(&directory).unwrap().chat_template(), &["dir/tokenizer_config.json", "chat_template", "3"]);
}

#[test]
fn sources_refuse_ranges_beyond_their_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"0123456789").unwrap();
    let sources: [Box<dyn ByteSource>; 2] =
        [Box::new(FileSource::open(file.path()).unwrap()), Box::new(MemorySource::new("memory", *b"0123456789"))];
    for source in sources {
        let read = |offset, len| {
            let mut out = vec![0; len];
            block_on(source.read(offset, &mut out)).map(|()| out)
        };
        assert_eq!(source.len(), 10);
        assert_eq!(read(3, 4).unwrap(), b"3456");
        assert_eq!(read(10, 0).unwrap(), b"");
        refused(read(7, 4), &[source.name(), "bytes 7", "only 10 bytes"]);
        refused(read(u64::MAX, 4), &[source.name(), "only 10 bytes"]);
    }
    // The file is truncated meanwhile: an error, not a panic.
    let source = FileSource::open(file.path()).unwrap();
    std::fs::write(file.path(), b"01").unwrap();
    refused(block_on(source.read(0, &mut [0; 4])), &[source.name()]);
}

#[test]
fn the_real_model_has_its_published_tensors() {
    let checkpoint = block_on(Checkpoint::open(model_path())).unwrap();
    assert_eq!(checkpoint.tensors.len(), 272);
    let config = Config::from_checkpoint(&checkpoint).unwrap();
    config.check_tensors(&checkpoint).unwrap();
    let embedding = config.tensor(&checkpoint, Role::Embedding).unwrap();
    assert_eq!(embedding.shape, [49152, 576]);
    let row = block_on(checkpoint.read_rows(embedding, 49151..49152)).unwrap();
    assert_eq!(row.len(), embedding.row_bytes());
    let norm = config.tensor(&checkpoint, Role::FinalNorm).unwrap();
    assert!(block_on(checkpoint.read_f32(norm)).unwrap().iter().all(|x| x.is_finite()));
    let Metadata::Gguf(meta) = &checkpoint.metadata else { panic!("not GGUF") };
    assert_eq!(meta.strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), 49152);
    assert_eq!(meta.i32s("tokenizer.ggml.token_type").unwrap().unwrap().len(), 49152);
}
