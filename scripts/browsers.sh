#!/usr/bin/env bash
# browsers.sh node|install|test: runs the tests of the WebAssembly that `wasm.sh build` made. `node` runs those that need no
# browser. `install` installs Node, Chromium and Firefox where they are missing, from this machine's package sources, and the
# tests' npm packages; `test` also runs the tests in both browsers.
. "$(dirname "$0")/common.sh"
verb=${1:-install}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# Builds the test suite, which the tests also run to exchange packs with, and lets it write every shader as JSON unless that
# file is newer.
permutations() {
    local list=$target/permutations.json built
    built=$(cargo test --locked --test suite --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    [ "$list" -nt "$built" ] || HEADSTART_PERMUTATIONS=$list cargo test --quiet --locked --test suite -- every_permutation </dev/null
}

need_node
node_modules tests/browser
if [ "$verb" = node ]; then
    permutations
    MADE=$target node --test --test-concurrency=1 tests/browser/large.test.mjs tests/browser/dawn.test.mjs
    exit 0
fi

lacking=()
has chromium || [ -n "${CHROMIUM:-}" ] || lacking+=(chromium)
has firefox-esr || [ -n "${FIREFOX:-}" ] || lacking+=(firefox-esr)
[ ${#lacking[@]} = 0 ] || apt_install "${lacking[@]}" || die "the browser tests need ${lacking[*]}: install them"
[ "$verb" = test ] || exit 0
permutations
MADE=$target node --test --test-concurrency=1 tests/browser/suite.test.mjs
