#!/usr/bin/env bash
# browsers.sh install|test: Chromium and Firefox with Node to drive them, where they are missing, from this machine's own package
# sources, and what the browser tests import; `test` goes on to the tests, of what `wasm.sh build` has built.
. "$(dirname "$0")/common.sh"
verb=${1:-install}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

lacking=()
has chromium || [ -n "${CHROMIUM:-}" ] || lacking+=(chromium)
has firefox-esr || [ -n "${FIREFOX:-}" ] || lacking+=(firefox-esr)
has node && has npm || lacking+=(nodejs npm)
[ ${#lacking[@]} = 0 ] || apt_install "${lacking[@]}" || die "the browser tests need ${lacking[*]}: install them"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' || die "the browser tests need Node 20 or newer"
(
    # What was installed is what the lock file says, or is installed anew.
    cd tests/browser
    cmp -s package-lock.json node_modules/.installed || { npm ci --no-audit --no-fund >&2 && cp package-lock.json node_modules/.installed; }
)
[ "$verb" = test ] || exit 0

# The program itself too, whose packs the browsers take and give.
HEADSTART_PERMUTATIONS=$target/permutations.json cargo test --quiet --locked --test suite -- every_permutation </dev/null
MADE=$target node --test --test-concurrency=1 tests/browser/suite.test.mjs
