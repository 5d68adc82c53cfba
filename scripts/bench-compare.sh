#!/usr/bin/env bash
# bench-compare.sh BASE PACKAGE...: the benchmarks of revision BASE against those
# of the working tree. Both are built first and run by turns, COUNT times each, so
# that a machine which warms up or slows down treats both alike.
set -euo pipefail

base=$1
shift
: "${BENCHSTAT:?path of benchstat}"
top=$(git rev-parse --show-toplevel)
cd "$top"
work=$(mktemp -d)
tree=$work/base
trap 'git worktree remove --force "$tree" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$tree" "$base"

args=(-test.run '^$' -test.bench "${BENCH:-.}" -test.benchmem -test.benchtime "${BENCHTIME:-1s}" -test.count 1)
compared=0
for package in $(go list -f '{{.Dir}}' "$@"); do
  dir=${package#"$top"}
  dir=.${dir}
  grep -qs '^func Benchmark' "$dir"/*_test.go || continue
  grep -qs '^func Benchmark' "$tree/$dir"/*_test.go || { echo "$dir: no benchmark in $base, left out"; continue; }
  (cd "$tree" && go test -c -o "$work/base.test" "$dir")
  go test -c -o "$work/new.test" "$dir"
  : >"$work/base.txt"
  : >"$work/new.txt"
  for ((round = 1; round <= ${COUNT:-6}; round++)); do
    echo "$dir: round $round of ${COUNT:-6}" >&2
    (cd "$tree/$dir" && "$work/base.test" "${args[@]}") >>"$work/base.txt"
    (cd "$dir" && "$work/new.test" "${args[@]}") >>"$work/new.txt"
  done
  compared=$((compared + 1))
  "$BENCHSTAT" "$base=$work/base.txt" "tree=$work/new.txt"
done
if ((compared == 0)); then
  echo "bench-compare: nothing to compare in $*" >&2
  exit 1
fi
