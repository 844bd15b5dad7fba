#!/usr/bin/env bash
# npm.sh build|test|node|browser|consumers: builds and tests the npm package. `test` needs Node alone, `node` also a Vulkan
# driver; `browser` drives Chromium and Firefox; `consumers` installs the packed package into new projects, whose bundlers come
# from the npm registry. All but `test` need the engine that `wasm.sh build` puts into web/npm/wasm.
. "$(dirname "$0")/common.sh"
verb=${1:-build}
need_node
node_modules web/npm
case $verb in
    build) npm_run web/npm build ;;
    test) npm_run web/npm test ;;
    node) npm_run web/npm test:node ;;
    browser) scripts/browsers.sh install && scripts/model.sh && npm_run web/npm test:browser ;;
    consumers) scripts/browsers.sh install && npm_run web/npm test:consumers ;;
    *) die "npm.sh build|test|node|browser|consumers, not $verb" ;;
esac
