#!/usr/bin/env bash
# web.sh build|test: the WebAssembly, the npm package and the demo, in the order in which each uses the one before. `test`
# drives what was built in Chromium.
. "$(dirname "$0")/common.sh"
verb=${1:-build}

has node && has npm || die "Node 20.19 or newer and npm are needed: install them, then run this again"
node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' ||
    die "Node $(node --version) is too old: 20.19 or newer is needed"

# in_folder FOLDER NPM-ARGUMENT…
in_folder() { (cd "web/$1" && shift && npm --no-audit --no-fund --loglevel=error "$@" </dev/null); }

case $verb in
build)
    scripts/wasm.sh build
    say "the npm package"
    in_folder npm ci
    in_folder npm run build -- --require-wasm
    say "the demo"
    in_folder demo ci
    in_folder demo run build
    say "the demo is in web/demo/dist: serve it from any folder of any host"
    ;;
test)
    export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
    [ -x "$CHROMIUM" ] || apt_install chromium || die "Chromium is needed: install it, or say where it is with CHROMIUM=…"
    scripts/model.sh
    in_folder demo test
    in_folder demo run test:real
    ;;
*) die "web.sh build or web.sh test, not $verb" ;;
esac
