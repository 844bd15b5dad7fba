#!/usr/bin/env bash
# npm.sh build|test|node|browser|consumers: the npm package. `test` needs Node only, `node` a Vulkan driver too; `browser` drives
# Chromium and Firefox; `consumers` installs the packed package into fresh projects, for which it asks the npm registry for their
# bundlers. All but `test` want the engine that `wasm.sh build` leaves in web/npm/wasm.
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
