#!/usr/bin/env bash
# `make test`: format, lints, a test for every row of the language, every test, the examples in the documentation. Sets up
# what it needs first.
#
# The tests want root: for users, mounts and namespaces. Without it they are built as you and run through sudo.
#
# Leaves target/test-results.tsv behind, with a line for each test: `passed`, `failed` or `skipped`, its name, and the
# reason if it was skipped. `.ci/run` reads it.
. "$(dirname "$0")/common.sh"
cd "$top"
results=$target/test-results.tsv
# nextest writes below the workspace, wherever the target directory is.
report=$top/target/nextest/default/junit.xml
mkdir -p "$target"
rm -f "$results" "$report"

scripts/setup.sh test || echo "going on without: tests that need them say \`skipped\`"

say "cargo fmt --check"
cargo fmt --all --check

say "Rows of the language without a test"
scripts/rows.sh

say "cargo clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "Base images"
cargo build --locked -p rbuild
store=$target/test-store
bases() { as_root env RBUILD="$target/debug/rbuild" RBUILD_ROOT="$store" scripts/bases.sh "$@"; }
if bases busybox debian:trixie; then
  export RBUILD_TEST_STORE=$store
  bases node:8.4 || echo "node:8.4 could not be made: npm's registry cannot be reached"
else
  echo "the base images could not be made: tests that need them say \`skipped\`"
fi

runner=CARGO_TARGET_$(uname -m | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUNNER
[ "$(id -u)" = 0 ] || export "$runner=sudo -E env PATH=$PATH"

status=0
if cargo nextest --version >/dev/null 2>&1; then
  say "cargo nextest run"
  cargo nextest run --workspace --locked || status=$?
  awk -f scripts/junit.awk "$report" >"$results"
else
  say "cargo test"
  cargo test --workspace --locked --all-targets --no-fail-fast -- --show-output 2>&1 \
    | tee "$target/test.log" | awk -f scripts/failures.awk || status=$?
  awk -f scripts/libtest.awk "$target/test.log" >"$results"
fi

say "cargo test --doc"
cargo test --workspace --doc --locked -q || status=$?

awk -F '\t' '
  { count[$1]++ }
  $1 == "skipped" { print "skipped: " $2 ": " $3 }
  END { printf "\ntests: %d passed, %d failed, %d skipped\n", count["passed"], count["failed"], count["skipped"] }
' "$results"
exit "$status"
