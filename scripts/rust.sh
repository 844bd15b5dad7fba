#!/usr/bin/env bash
# A Rust toolchain new enough, and the C linker it calls. Toolchains are the person's own choice: this one only says what is missing.
. "$(dirname "$0")/common.sh"
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
has cargo || die "cargo is not on the PATH: install Rust $want or newer with rustup (https://rustup.rs), then open a new shell"
found=$(rustc --version | cut -d ' ' -f 2)
[ "$(printf '%s\n' "$want" "$found" | sort -V | head -1)" = "$want" ] ||
    die "Rust $found is too old, $want or newer is needed: rustup update stable"
has cc || apt_install gcc libc6-dev || die "no C compiler (cc) found: install gcc or clang"
