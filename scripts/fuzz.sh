#!/usr/bin/env bash
# fuzz.sh SECONDS: runs the suite's generators for this long each, from seeds that are printed. Inputs that crashed a process
# are kept in tests/inputs/fuzz, which the suite reads too.
. "$(dirname "$0")/common.sh"
seconds=${1:-300}
scripts/rust.sh
scripts/model.sh
suite=(cargo test --locked --test suite --)
cargo test --locked --test suite --no-run
failed=
for kind in templates regexes tokenizers; do
    say "hostile::$kind for $seconds s each test"
    HEADSTART_FUZZ_SECONDS=$seconds "${suite[@]}" "hostile::$kind" --nocapture --test-threads 1 || failed=yes
done
# Parsers: each run draws its own seeds, and prints the smallest damage that fails.
ends=$((SECONDS + seconds))
while [ $SECONDS -lt $ends ]; do
    HEADSTART_FUZZ_CASES=5000 "${suite[@]}" fuzz_parsers:: --test-threads 2 || { failed=yes; break; }
done
[ -z "$failed" ] || die "something failed: see above, and tests/inputs/fuzz"
