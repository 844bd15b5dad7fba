//! `headstart-bindgen WASM DIRECTORY` writes what `wasm-bindgen --target web` writes: the JavaScript beside the WebAssembly. The
//! full command line tool includes a test runner and a web server, and takes minutes to build.

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
