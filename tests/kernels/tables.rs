//! Constants that shaders and their Rust counterparts must agree on.

use headstart::{
    gpu::shader::expand,
    kernels::{PAGE, SHADERS},
    quant::Format,
};

fn source(path: &str) -> &'static str {
    SHADERS.iter().find(|(known, _)| *known == path).unwrap_or_else(|| panic!("no shader file {path}")).1
}

#[test]
fn a_format_is_read_by_the_shader_file_of_its_name() {
    // Each file is replaced by a line with its format's name.
    let stand_ins = Format::ALL.map(|format| (&*format!("quant/{format}").leak(), format.name()));
    let library = [&stand_ins[..], &[("shared/matrix", source("shared/matrix"))]].concat().leak();
    let sizes = [("UNITS", 8), ("VALUE_WORDS", 8), ("SCALES_AT", 64), ("SCALE_WORDS", 4)];
    for format in Format::ALL {
        let defines: Vec<_> = sizes.into_iter().chain([("FORMAT", format.gguf())]).collect();
        let expanded = expand(library, "shared/matrix", &defines).unwrap();
        let named = |line: &&str| Format::from_name(line).is_some();
        assert_eq!(expanded.lines().filter(named).collect::<Vec<_>>(), [format.name()]);
    }
}

#[test]
fn a_page_has_as_many_tokens_in_the_shaders_as_in_rust() {
    assert!(source("shared/page").contains(&format!("const PAGE = {PAGE}u;")));
}
