#!/usr/bin/env bash
# rust.sh [test]: installs a recent enough Rust toolchain and the C linker that it calls; with `test` also rustfmt and clippy.
# Missing parts come from the system's packages if those are recent enough, else from rustup into the user's home.
. "$(dirname "$0")/common.sh"
want=$(setting rust-version)
rustup_root=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}
parts=()
[ "${1:-}" != test ] || parts=(rustfmt clippy)

found() { rustc --version 2>/dev/null | cut -d ' ' -f 2 || true; }
# enough VERSION
enough() { [ -n "$1" ] && [ "$(printf '%s\n' "$want" "$1" | sort -V | head -1)" = "$want" ]; }
complete() {
    has cargo && enough "$(found)" || return 1
    [ ${#parts[@]} = 0 ] || { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1
}

# offers PACKAGE: whether the system's package is recent enough.
offers() { enough "$(apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p')"; }
# Debian packages a newer Rust for its browsers beside the release's own. No package is removed to install it.
from_packages() {
    has apt-get && has apt-cache || return 1
    apt-cache show rustc >/dev/null 2>&1 || as_root apt-get -qq update </dev/null >&2 || return 1
    local packages
    if offers rustc; then
        packages=(rustc cargo)
        [ ${#parts[@]} = 0 ] || packages+=(rustfmt rust-clippy)
    elif offers rustc-web; then
        packages=(rustc-web cargo-web)
        [ ${#parts[@]} = 0 ] || packages+=(rustfmt-web rust-web-clippy)
    else
        return 1
    fi
    apt_install --no-remove "${packages[@]}"
}

from_rustup() {
    local options=(--profile minimal) part folder status=0
    for part in "${parts[@]+"${parts[@]}"}"; do options+=(--component "$part"); done
    if has rustup; then
        say "rustup installs its stable toolchain"
        rustup toolchain install stable --no-self-update "${options[@]}" </dev/null >&2
        return
    fi
    say "rustup's installer puts Rust into ${CARGO_HOME:-$HOME/.cargo} and ${RUSTUP_HOME:-$HOME/.rustup}; \`rustup self uninstall\` removes it"
    folder=$(mktemp -d)
    { download "$rustup_root/rustup-init.sh" "$folder/init.sh" &&
        RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$folder/init.sh" -y --default-toolchain stable "${options[@]}" </dev/null >&2; } || status=$?
    rm -rf "$folder"
    use_rustup
    return $status
}

if ! complete; then
    here=$(found)
    if enough "$here"; then
        say "Rust $here is installed without ${parts[*]}"
    else
        say "$([ -n "$here" ] && echo "Rust $here is too old" || echo "Rust is missing"): $want or newer is needed"
    fi
    from_packages || from_rustup ||
        die "Rust $want or newer could not be installed: neither the system's packages nor $rustup_root provided it; check the network, or install it yourself (https://rustup.rs), then run this again"
    complete ||
        die "Rust $want or newer was installed, but \`rustc\` is still $(found): select the new one, for example with \`rustup default stable\`, then run this again"
    say "Rust $(found) is installed, and new shells will find it"
fi
has cc || apt_install gcc libc6-dev || die "no C compiler (cc) found: install gcc or clang"
