#!/usr/bin/env bash
# card.sh pack OUT.tar[.xz] [--no-model]: packs all that a machine with a graphics card and no network needs to test and measure
# headstart: program, tests and their files, the default model, llama.cpp's server with its Vulkan back end, and a Vulkan
# loader.
#
# card.sh run [RESULTS]: tests and measures there, in the unpacked folder. Needs bash, Python 3 and the card's driver:
#     python3 -m tarfile -e OUT.tar.xz && cd headstart-card && scripts/card.sh run
# Complete logs, JSON and charts go to RESULTS (`results`); the end of each log is printed. Steps that failed or had no time are
# listed at the end, and make the exit code nonzero. Environment: LIMIT, seconds for everything (460); TESTS, seconds for each
# of three groups of tests (90); SHAPES, random models (1b 8b; also tiny, 135m); LENGTHS, prompt lengths (512,2048); PREFIX,
# lengths for `bench prefix`; ROUNDS, turns of each engine (2).
. "$(dirname "$0")/common.sh"
verb=${1:-}
[ $# -gt 0 ] && shift
llama=.cache/bench/llama
# What programs need, then desktop libraries that NVIDIA's driver needs and bare servers lack.
libraries="libgomp.so.1 libstdc++.so.6 libgcc_s.so.1
    libGLdispatch.so.0 libGLX.so.0 libX11.so.6 libXext.so.6 libxcb.so.1 libXau.so.6 libXdmcp.so.6 libbsd.so.0 libmd.so.0"
model=models/SmolLM2-135M-Instruct.Q4_1.gguf

# library NAME: its path on this system, or nothing.
library() { { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | awk -v name="$1" '$1 == name { print $NF; exit }'; }

pack() (
    out=${1:?the tar file to write} what=${2:-} suite=${SUITE:-} target=${CARGO_TARGET_DIR:-target}
    [ -z "$what" ] || [ "$what" = --no-model ] || die "card.sh pack OUT.tar[.xz] [--no-model], not $what"
    scripts/rust.sh
    scripts/bench.sh install llama
    [ -n "$suite" ] || cargo build --release --locked
    [ -n "$suite" ] || suite=$(cargo test --locked --test suite --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    card=$work/headstart-card
    mkdir -p "$card/target/release" "$card/tests" "$card/models" "$card/.cache/bench"
    strip -o "$card/target/release/headstart" "$target/release/headstart"
    strip -o "$card/target/suite" "$suite"
    pwd >"$card/target/root"
    cp -r scripts "$card/"
    cp -r tests/golden "$card/tests/"
    cp -r models.json Cargo.toml shaders src "$card/"
    cp -a $llama "$card/$llama"
    mkdir "$card/target/carried"
    cp -L $llama/libvulkan.so.1 "$card/target/carried/"
    for lib in $libraries; do cp -L "$(library "$lib")" "$card/target/carried/" || die "$lib is missing here"; done
    [ -n "$what" ] || { scripts/model.sh && cp -L $model "$card/$model"; }
    say "packing $out"
    python3 - "$out" "$work" <<'PY'
import sys, tarfile
out, work = sys.argv[1:]
with tarfile.open(out, "w:xz" if out.endswith(".xz") else "w") as tar:
    tar.add(work + "/headstart-card", "headstart-card")
PY
    ls -l "$out" >&2
)

# step NAME SECONDS COMMAND…: runs COMMAND for at most SECONDS and at most the time left; the complete log is RESULTS/NAME.log.
step() {
    local name=$1 most=$2 left=$((limit - SECONDS)) code=0 began=$SECONDS
    shift 2
    most=$((most < left ? most : left))
    if [ $most -lt 5 ]; then
        say "$name: no time left"
        failed+=("$name")
        return
    fi
    timeout -k 5 $most "$@" >"$results/$name.log" 2>&1 </dev/null || code=$?
    [ $code = 0 ] || failed+=("$name")
    case $code in
        0) say "$name: $((SECONDS - began)) s" ;;
        124 | 137) say "$name: stopped after $most s" ;;
        *) say "$name: FAILED with $code" ;;
    esac
    tail -n 12 "$results/$name.log" | cut -c 1-220
}

run() {
    results=$(realpath -m "${1:-results}") limit=${LIMIT:-460} failed=()
    local root lib name shape file files=() headstart=target/release/headstart
    mkdir -p "$results" models
    python3 --version >&2 || die "Python 3 is needed"
    [ -x target/suite ] || die "card.sh run works only in the unpacked folder of card.sh pack"
    # The tests look for their files in the folder in which they were built.
    root=$(cat target/root)
    [ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; } || say "$root cannot be created: tests that read files will fail"
    # Link the libraries that this machine lacks.
    mkdir -p target/lib
    for lib in target/carried/*; do [ -n "$(library "${lib##*/}")" ] || ln -sf "$PWD/$lib" target/lib/; done
    export LD_LIBRARY_PATH=$PWD/target/lib:${LD_LIBRARY_PATH:-}
    export RUST_BACKTRACE=1 XDG_CACHE_HOME=${XDG_CACHE_HOME:-$results/cache}

    local class real=() kinds=(halves:: int8:: engine:: resume:: ahead:: answers:: architectures::the_engine formats::)
    [ ! -f $model ] || real=(exactness:: parity:: counters::)
    for shape in ${SHAPES-1b 8b}; do
        step "make-$shape" 60 python3 scripts/bench/synthetic.py "$shape" "models/$shape.gguf"
        files+=("models/$shape.gguf")
    done
    [ ! -f $model ] || files=($model "${files[@]}")
    step kernels "${TESTS:-90}" target/suite kernels:: --skip kernels::translate
    for class in auto f32; do
        HEADSTART_KERNELS=$class step "exactness-$class" "${TESTS:-90}" target/suite "${kinds[@]}" "${real[@]}" --skip remote::
    done
    for file in "${files[@]}"; do
        name=$(basename "$file" .gguf)
        step "bench-$name" 100 python3 scripts/bench/run.py --engines headstart,llama-vulkan --model "$file" --lengths "${LENGTHS:-512,2048}" \
            --rounds "${ROUNDS:-2}" --seconds 20 --start 60 --out "$results/bench-$name"
        step "profile-$name" 30 $headstart bench --profile --model "$file" --prefill "${LENGTHS:-512,2048}"
        for class in f32 int8; do
            step "$class-$name" 30 $headstart bench --kernels $class --model "$file" --prefill 512 --decode 16 --runs 2
        done
    done
    for file in "${files[@]:0:2}"; do
        name=$(basename "$file" .gguf)
        step "prefix-$name" 45 $headstart bench prefix --model "$file" --out "$results/prefix-$name" --seconds 25 ${PREFIX:+--lengths "$PREFIX"}
    done
    [ ${#failed[@]} = 0 ] || die "after $SECONDS s, failed or without time: ${failed[*]}"
    say "finished in $SECONDS s; results are in $results"
}

case $verb in
    pack | run) "$verb" "$@" ;;
    *) die "card.sh pack OUT.tar[.xz] [--no-model] | run [RESULTS]" ;;
esac
