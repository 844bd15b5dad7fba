#!/usr/bin/env bash
# web.sh build|demo|test: `build` makes the WebAssembly, the npm package and the chat page, in this order since each uses the
# one before; `demo` makes the chat page alone. `test` drives it in Chromium.
. "$(dirname "$0")/common.sh"
verb=${1:-build}
need_node
case $verb in
    build) scripts/wasm.sh build && scripts/npm.sh build && scripts/web.sh demo ;;
    demo)
        node_modules web/demo
        npm_run web/demo build
        say "the chat page is in web/demo/dist: it can be served from any folder of any host"
        ;;
    test)
        scripts/browsers.sh install
        scripts/model.sh
        npm_run web/demo test
        npm_run web/demo test:real
        ;;
    *) die "web.sh build|demo|test, not $verb" ;;
esac
