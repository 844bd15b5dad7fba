//! `headstart-bindgen WASM DIRECTORY`: the JavaScript of the web face beside its WebAssembly, as `wasm-bindgen --target web`
//! writes it. The whole command line tool brings a test runner and a web server along, and takes minutes to build.

use wasm_bindgen_cli_support::Bindgen;

fn main() {
    let [wasm, directory] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("usage: WASM DIRECTORY");
    let mut bindgen = Bindgen::new();
    let made = bindgen.web(true).and_then(|bindgen| {
        bindgen.input_path(wasm).out_name("headstart").typescript(false).omit_default_module_path(true).generate(directory)
    });
    if let Err(error) = made {
        eprintln!("error: {error:?}");
        std::process::exit(1);
    }
}
