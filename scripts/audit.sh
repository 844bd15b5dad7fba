#!/usr/bin/env bash
# Known faults, licences and origins of what we depend on: what deny.toml says of the crates, and npm's list of faults for what
# the packages bring with them. Whatever cannot run here, or cannot reach its data, says so in a line and is no failure.
. "$(dirname "$0")/common.sh"
found=

# bounded COMMAND…: ends what waits for a network that never answers.
bounded() { if has timeout; then timeout 15 "$@"; else "$@"; fi; }

# crates CHECK…: a finding is an error. Nothing is fetched.
crates() { cargo deny --locked --offline --log-level error check "$@" >&2 || found=yes; }

if ! has cargo-deny; then
    say "crates are not looked at: there is no cargo-deny (cargo install --locked cargo-deny)"
else
    if bounded cargo fetch --quiet --locked 2>/dev/null; then
        crates licenses sources
    else
        say "licences and origins of crates are not looked at: the crates cannot be fetched"
    fi
    if bounded cargo deny --log-level off fetch db >/dev/null 2>&1; then
        crates advisories
    else
        say "known faults of crates are not looked at: their list cannot be fetched"
    fi
fi

# packages FOLDER: what npm reports tells a finding from a question that was not answered.
packages() {
    local report
    report=$(cd "$1" && bounded npm audit --omit=dev --json --fetch-retries=0 2>/dev/null) && return
    if grep -q '"auditReportVersion"' <<<"$report"; then
        say "$1: npm knows faults of its packages; see: (cd $1 && npm audit --omit=dev)"
        grep -E '"(name|severity|title|range)":' <<<"$report" >&2 || true
        found=yes
    else
        say "$1: known faults of its packages are not looked at: the registry does not tell them"
    fi
}

if has npm; then
    packages web/npm
    packages web/demo
else
    say "known faults of npm packages are not looked at: there is no npm"
fi

[ -z "$found" ] || die "the dependencies have faults; see above"
