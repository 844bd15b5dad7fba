#!/usr/bin/env bash
# The release binary: a release's own where there is one of just this source for this platform, else built here.
. "$(dirname "$0")/common.sh"
target=${CARGO_TARGET_DIR:-target}
binary=$target/release/headstart

# A release is named by `repository` in Cargo.toml, and its archives by their SHA-256 in prebuilt.sha256, beside this script. Both are
# empty until there is one. Its binary is taken in a clean checkout of its tag alone, since any other source makes another.
prebuilt() (
    repository=$(setting repository) version=$(setting version)
    asset=headstart-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m).tar.gz
    sha=$(awk -v asset="$asset" '$2 == asset { print $1 }' scripts/prebuilt.sha256)
    [ -n "$repository" ] && [ -n "$sha" ] && has git || exit 1
    [ "$(git describe --tags --exact-match 2>/dev/null)" = "v$version" ] && git diff --quiet HEAD -- || exit 1
    [ -x "$binary" ] && [ "$(cat "$target/release/.prebuilt" 2>/dev/null)" = "$sha" ] && exit 0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "taking the binary of release $version"
    if ! download "$repository/releases/download/v$version/$asset" "$work/$asset"; then
        say "it could not be downloaded: building it instead"
    elif [ "$(digest "$work/$asset")" != "$sha" ]; then
        say "what was downloaded is not what was released (its SHA-256 differs): building it instead"
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
    # cargo names each package that it begins. The last, headstart itself, takes minutes without a word.
    while sleep "${TICK:-30}" >/dev/null 2>&1; do say "building for $(elapsed $((SECONDS - start)))"; done &
    ticker=$!
    trap 'kill $ticker 2>/dev/null || true' EXIT
    cargo build --release --locked || status=$?
    [ $status = 0 ] || die "the build failed after $(elapsed $((SECONDS - start)))"
    say "built in $(elapsed $((SECONDS - start)))"
)

prebuilt || { scripts/rust.sh && compile; }
