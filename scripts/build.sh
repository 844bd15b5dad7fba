#!/usr/bin/env bash
# The release binary: a published one if there is one for exactly this source and platform, else built here.
. "$(dirname "$0")/common.sh"
target=${CARGO_TARGET_DIR:-target}
binary=$target/release/headstart

# `repository` in Cargo.toml names where releases are, and prebuilt.sha256, beside this script, their archives' SHA-256. Both
# are empty until there is a release. A published binary is used in a clean checkout of its tag alone, since any other source
# gives another binary.
prebuilt() (
    repository=$(setting repository) version=$(setting version)
    asset=headstart-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m).tar.gz
    sha=$(awk -v asset="$asset" '$2 == asset { print $1 }' scripts/prebuilt.sha256)
    [ -n "$repository" ] && [ -n "$sha" ] && has git || exit 1
    [ "$(git describe --tags --exact-match 2>/dev/null)" = "v$version" ] && git diff --quiet HEAD -- || exit 1
    [ -x "$binary" ] && [ "$(cat "$target/release/.prebuilt" 2>/dev/null)" = "$sha" ] && exit 0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "downloading the binary of release $version"
    if ! download "$repository/releases/download/v$version/$asset" "$work/$asset"; then
        say "it could not be downloaded: building it instead"
    elif [ "$(digest "$work/$asset")" != "$sha" ]; then
        say "the download is not what was released (its SHA-256 differs): building it instead"
    elif ! tar -xzf "$work/$asset" -C "$work" headstart || ! "$work/headstart" --version >/dev/null; then
        say "it does not run here: building it instead"
    else
        mkdir -p "$target/release"
        mv "$work/headstart" "$binary"
        echo "$sha" >"$target/release/.prebuilt"
        exit 0
    fi
    exit 1
)

# elapsed SECONDS
elapsed() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

compile() (
    start=$SECONDS status=0
    [ -x "$binary" ] || say "building headstart: about 6 minutes the first time on 2 cores, less on more; seconds after that"
    # cargo prints a line for each package that it begins. The last one, headstart itself, compiles for minutes without output.
    while sleep "${TICK:-30}" >/dev/null 2>&1; do say "building for $(elapsed $((SECONDS - start)))"; done &
    ticker=$!
    trap 'kill $ticker 2>/dev/null || true' EXIT
    cargo build --release --locked || status=$?
    [ $status = 0 ] || die "the build failed after $(elapsed $((SECONDS - start)))"
    say "built in $(elapsed $((SECONDS - start)))"
)

prebuilt || { scripts/rust.sh && compile; }
