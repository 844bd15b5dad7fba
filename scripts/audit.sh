#!/usr/bin/env bash
# Checks the dependencies' advisories, licences and sources: crates by deny.toml, npm packages by npm's advisories. A check that
# cannot run here, or cannot reach its data, prints a line and does not fail.
. "$(dirname "$0")/common.sh"
found=

# bounded COMMAND…: stops a command that waits for a network that never answers.
bounded() { if has timeout; then timeout 15 "$@"; else "$@"; fi; }

# crates CHECK…: a finding is an error. Fetches nothing.
crates() { cargo deny --locked --offline --log-level error check "$@" >&2 || found=yes; }

if ! has cargo-deny; then
    say "crates are not checked: cargo-deny is not installed (cargo install --locked cargo-deny)"
else
    if bounded cargo fetch --quiet --locked 2>/dev/null; then
        crates licenses sources
    else
        say "licences and sources of crates are not checked: the crates cannot be fetched"
    fi
    if bounded cargo deny --log-level off fetch db >/dev/null 2>&1; then
        crates advisories
    else
        say "advisories for crates are not checked: their list cannot be fetched"
    fi
fi

# packages FOLDER: npm's report tells a finding from a query without an answer.
packages() {
    local report
    report=$(cd "$1" && bounded npm audit --omit=dev --json --fetch-retries=0 2>/dev/null) && return
    if grep -q '"auditReportVersion"' <<<"$report"; then
        say "$1: npm has advisories for its packages; see: (cd $1 && npm audit --omit=dev)"
        grep -E '"(name|severity|title|range)":' <<<"$report" >&2 || true
        found=yes
    else
        say "$1: advisories for its packages are not checked: the registry did not answer"
    fi
}

if has npm; then
    packages web/npm
    packages web/demo
else
    say "advisories for npm packages are not checked: npm is not installed"
fi

[ -z "$found" ] || die "the dependencies have findings; see above"
