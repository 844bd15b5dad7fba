#!/usr/bin/env bash
# browsers.sh node|install|test: the tests of what `wasm.sh build` has built. `node` runs those that need no browser. `install`
# gets Chromium and Firefox with Node to drive them, where they are missing, from this machine's own package sources, and what
# the tests import; `test` goes on to the tests in both.
. "$(dirname "$0")/common.sh"
verb=${1:-install}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

if [ "$verb" = node ]; then
    need_node
    node --test tests/browser/large.test.mjs
    exit 0
fi

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
