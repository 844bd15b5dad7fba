#!/usr/bin/env bash
# browsers.sh install|test: Chromium and Firefox with Node to drive them, where they are missing, from this machine's own package
# sources, and what the browser tests import; `test` goes on to the tests, of what `wasm.sh build` has built.
. "$(dirname "$0")/common.sh"
verb=${1:-install}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

lacking=()
has chromium || [ -n "${CHROMIUM:-}" ] || lacking+=(chromium)
has firefox-esr || [ -n "${FIREFOX:-}" ] || lacking+=(firefox-esr)
[ ${#lacking[@]} = 0 ] || apt_install "${lacking[@]}" || die "the browser tests need ${lacking[*]}: install them"
need_node
node_modules tests/browser
[ "$verb" = test ] || exit 0

# The program itself too, whose packs the browsers take and give.
HEADSTART_PERMUTATIONS=$target/permutations.json cargo test --quiet --locked --test suite -- every_permutation </dev/null
MADE=$target node --test --test-concurrency=1 tests/browser/suite.test.mjs
