#!/usr/bin/env bash
# make test (all) and make test-fast (fast). The suite runs last, so its last line is the result.
. "$(dirname "$0")/common.sh"
kind=${1:-all}
export RUST_BACKTRACE=1

step() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    "$@" || die "$name failed after $((SECONDS - start)) s"
    say "$name: $((SECONDS - start)) s"
}

# side_by_side NAME COMMAND [NAME COMMAND…]: runs steps that mostly wait at the same time. Prints the output of each when it has
# ended.
side_by_side() {
    local folder pids=() at failed=
    folder=$(mktemp -d)
    while [ $# -gt 0 ]; do
        say "$1, in parallel"
        step "$1" $2 >"$folder/${#pids[@]}" 2>&1 &
        pids+=($!)
        shift 2
    done
    for at in "${!pids[@]}"; do
        wait "${pids[at]}" || failed=yes
        cat "$folder/$at"
    done
    rm -rf "$folder"
    [ -z "$failed" ] || exit 1
}

step toolchain scripts/rust.sh test
step vulkan scripts/vulkan.sh
step redis scripts/redis.sh
[ "$kind" = fast ] || step model scripts/model.sh
[ "$kind" = fast ] || step "dependencies" scripts/audit.sh
step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
if [ "$kind" != fast ]; then
    step "wasm build" scripts/wasm.sh build
    step "npm package" scripts/npm.sh test
    step "engine in Node" scripts/browsers.sh node
    step "npm package in Node" scripts/npm.sh node
    step browsers scripts/browsers.sh install
    step "chat page" scripts/web.sh demo
    side_by_side "browser tests" "scripts/browsers.sh test" \
        "npm package in browsers" "scripts/npm.sh browser" \
        "chat page in a browser" "scripts/web.sh test"
    step "npm package in other projects" scripts/npm.sh consumers
fi
step "documentation tests" cargo test --locked --doc
# Tests that open the real model, by the start or a part of their path.
needs_model=(parity:: readme::its_commands exactness:: text::stream:: text::vocab:: real_model)
# Tests that sweep over every permutation, hit, history or model.
sweeps=(kernels::translate:: reuse::conformance:: reuse::warm:: kv::fuzz:: persist::an_exact_repeat
    cache::engine::a_pack_goes remote::engine::kv_of_one_engine hostile:: store::mutants)
skip=()
[ "$kind" = fast ] && skip=(-- "${needs_model[@]/#/--skip=}" "${sweeps[@]/#/--skip=}")
step "test suite" cargo test --locked --lib --bins --test suite "${skip[@]}" </dev/null
say "finished in $SECONDS s"
