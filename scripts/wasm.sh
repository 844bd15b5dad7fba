#!/usr/bin/env bash
# wasm.sh check|build: compiles the library (without its command line) and the web bindings for wasm32-unknown-unknown, in a
# target folder of its own. `build` also writes the module and its JavaScript to web/npm/wasm, and checks the module's download
# size. The compiler is rustup's if it has the target or can get it; else Debian's newer rustc with its own sources, unpacked
# under .cache without being installed, which builds std itself.
. "$(dirname "$0")/common.sh"
verb=${1:-build}
triple=wasm32-unknown-unknown
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/wasm
args=(--locked --profile web --target "$triple" -p headstart-web)

has_target() { [ -d "$(rustc --print target-libdir --target "$triple" 2>/dev/null)" ]; }

debian_rust() {
    local root=$PWD/.cache/rust-web std llvm packages deb
    if [ ! -f "$root/complete" ] || [ ! -x "$root/wasm-ld" ]; then
        has apt-get && has dpkg-deb || return 1
        apt-cache show rustc-web >/dev/null 2>&1 || as_root apt-get -qq update </dev/null >&2 || return 1
        [ "$(printf '%s\n' "$want" "$(apt-cache show --no-all-versions rustc-web | sed -n 's/^Version: //p')" | sort -V | head -1)" = "$want" ] ||
            { say "the rustc-web of this machine's archives is older than $want: add bookworm-security to the sources"; return 1; }
        std=$(depends_on libstd-rust-web-dev 'libstd-rust-web-[0-9.]+') && llvm=$(depends_on "$std" 'libllvm[0-9]+') || return 1
        packages=(rustc-web rust-web-src libstd-rust-web-dev "$std" "$llvm" "lld-${llvm#libllvm}")
        say "unpacking a compiler for $triple: ${packages[*]}"
        rm -rf "$root" && mkdir -p "$root/deb"
        (cd "$root/deb" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}" </dev/null >&2) || return 1
        for deb in "$root"/deb/*.deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --anchored --no-wildcards-match-slash --exclude='./usr/share' \
                --exclude='./usr/bin/rustdoc' --exclude='./usr/src/*/src' --exclude='./usr/src/*/compiler'
        done
        rm -r "$root/deb"
        unpacked rustc usr/bin/rustc
        unpacked wasm-ld "usr/lib/llvm-${llvm#libllvm}/bin/wasm-ld"
        if ! "$root/rustc" --version >/dev/null 2>&1; then
            apt_install libedit2 libz3-4 libxml2 libffi8 zlib1g libzstd1 && "$root/rustc" --version >&2 || return 1
        fi
        touch "$root/complete"
    fi
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$root/wasm-ld" RUSTC="$root/rustc" RUSTC_BOOTSTRAP=1
    args+=(-Zbuild-std=std,panic_abort)
}
# unpacked NAME PROGRAM: writes a script that runs a program of the unpacked packages with their libraries.
unpacked() {
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$root/usr/lib/x86_64-linux-gnu" "$root/$2" >"$root/$1"
    chmod +x "$root/$1"
}
# depends_on PACKAGE REGEX: the name of a package's dependency that matches.
depends_on() { apt-cache depends "$1" | sed -nE "s/^ *Depends: ($2)\$/\1/p" | head -1 | grep .; }

# WASM_RUST=debian uses Debian's compiler even if rustup's would do.
if [ "${WASM_RUST:-}" = debian ] || ! { has_target || { has rustup && rustup target add "$triple" >/dev/null 2>&1 && has_target; }; }; then
    debian_rust || die "no compiler for $triple: rustup target add $triple, or, on Debian 12, allow apt-get download rustc-web"
fi
cargo "$verb" "${args[@]}"
[ "$verb" = build ] || exit 0

# Both halves of wasm-bindgen must have the same version.
release=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"/\1/p}' Cargo.lock)
grep -q "wasm-bindgen-cli-support = \"=$release\"" web/bindgen/Cargo.toml ||
    die "Cargo.lock has wasm-bindgen $release, but web/bindgen/Cargo.toml another version: make them the same"
out=web/npm/wasm
mkdir -p "$out"
env -u RUSTC -u RUSTC_BOOTSTRAP cargo run --quiet --locked --manifest-path web/bindgen/Cargo.toml --target-dir "$CARGO_TARGET_DIR/bindgen" -- \
    "$CARGO_TARGET_DIR/$triple/web/headstart_web.wasm" "$out"

# Limits what a page downloads.
need_node
node --input-type=module - "$out/headstart_bg.wasm" 1500000 <<'JS'
import { readFileSync } from "node:fs";
import { brotliCompressSync } from "node:zlib";
const [file, most] = process.argv.slice(2);
const bytes = readFileSync(file);
const small = brotliCompressSync(bytes).length;
console.log(`${file}: ${bytes.length} bytes, ${small} with brotli, at most ${most} allowed`);
process.exitCode = small <= Number(most) ? 0 : 1;
JS
