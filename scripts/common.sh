# Functions shared by the scripts beside it: messages, downloads and packages from the machine's apt sources. Sourced, never
# run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive

say() { printf '\033[1m==\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
# setting NAME: the value of the first line `NAME = "..."` in Cargo.toml.
setting() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -1; }
digest() { if has sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }

# use_rustup: puts rustup's programs first in PATH, as in a shell opened after its installation.
use_rustup() {
    local bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    case ":$PATH:" in *":$bin:"*) return ;; esac
    [ ! -x "$bin/cargo" ] || PATH=$bin:$PATH
}
use_rustup

# download URL FILE: downloads the whole file or fails. Redirects from https must stay on https.
download() {
    has curl || has wget || apt_install curl ca-certificates || return 1
    if has curl; then
        case $1 in
            https:*) curl --proto-redir =https -fsSL --retry 3 --connect-timeout 20 -o "$2" "$1" ;;
            *) curl -fsSL --retry 3 --connect-timeout 20 -o "$2" "$1" ;;
        esac
    else
        wget -q --tries=3 --timeout=20 -O "$2" "$1"
    fi
}

# as_root COMMAND…: runs it as root, through sudo if necessary. Fails if neither is possible, and never asks for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo -n -E "$@"; else return 1; fi
}

# apt_install PACKAGE…: fails with little output, so that the caller can print what the user should do instead.
apt_install() {
    has apt-get || return 1
    say "installing $*"
    local quiet=(-qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
    as_root apt-get "${quiet[@]}" install -y --no-install-recommends "$@" </dev/null >&2 && return
    as_root apt-get "${quiet[@]}" update </dev/null >&2 || true
    as_root apt-get "${quiet[@]}" install -y --no-install-recommends "$@" </dev/null >&2
}

# need_node: Node and npm in the versions that the packages require.
need_node() {
    has node && has npm || apt_install nodejs npm || die "Node 20.19 or newer and npm are needed: install them"
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
        die "Node $(node --version) is too old: 20.19 or newer is needed"
}

# node_modules FOLDER: installs its packages if they differ from its lock file.
node_modules() (
    cd "$1"
    cmp -s package-lock.json node_modules/.installed || { npm ci --no-audit --no-fund --loglevel=error >&2 && cp package-lock.json node_modules/.installed; }
)

# npm_run FOLDER SCRIPT [ARGUMENT…]
npm_run() { (cd "$1" && shift && npm run --silent "$@" </dev/null); }
