#!/usr/bin/env bash
# npm.sh build|test|browser|consumers: the npm package. `test` needs Node only; `browser` drives Chromium; `consumers` installs the
# packed package into fresh projects, for which it asks the npm registry for their bundlers. All but `test` want the engine that
# `wasm.sh build` leaves in web/npm/wasm.
. "$(dirname "$0")/common.sh"
verb=${1:-build}
cd web/npm

has node && has npm || apt_install nodejs npm || die "the npm package needs Node 20.19 or newer: install it"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    die "the npm package needs Node 20.19 or newer, and this is $(node --version)"
cmp -s package-lock.json node_modules/.installed || { npm ci --no-audit --no-fund >&2 && cp package-lock.json node_modules/.installed; }
chromium() { has chromium || [ -n "${CHROMIUM:-}" ] || apt_install chromium || die "the browser tests need Chromium: install it, or set CHROMIUM"; }

case $verb in
    build) npm run --silent build -- --require-wasm ;;
    test) npm run --silent test ;;
    browser) chromium && npm run --silent test:browser ;;
    consumers) chromium && npm run --silent test:consumers ;;
    *) die "npm.sh build|test|browser|consumers, not $verb" ;;
esac
