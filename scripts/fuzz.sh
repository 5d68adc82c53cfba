#!/usr/bin/env bash
# fuzz.sh PACKAGE...: run each fuzz target of the packages for FUZZTIME.
# Finds the targets itself; finding none is a failure, so that a moved package
# cannot stay green by not being fuzzed.
set -euo pipefail

fuzztime=${FUZZTIME:-10s}
# `go test -list` prints a package's targets, then a line "ok PACKAGE TIME".
if ! listed=$(go test -list '^Fuzz' "$@" 2>&1); then
  echo "$listed" >&2
  exit 1
fi
targets=$(awk '/^Fuzz/ { names = names " " $1; next } /^ok/ { n = split(names, f, " "); for (i = 1; i <= n; i++) print $2, f[i]; names = "" }' <<<"$listed")
if [[ -z $targets ]]; then
  echo "fuzz: no fuzz target in $*" >&2
  exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
count=0
while read -r package target; do
  printf '\n--- %s %s\n' "$package" "$target"
  # A worker that is still minimizing an input when the time is over makes go test
  # fail with "context deadline exceeded" and no failing input: that is the clock,
  # not a finding. Minimizing is kept short, so that the time goes into fuzzing.
  if ! go test -run '^$' -fuzz "^${target}\$" -fuzztime "$fuzztime" -fuzzminimizetime 10x "$package" 2>&1 | tee "$log"; then
    if ! grep -q 'context deadline exceeded' "$log" || grep -qE 'Failing input|panic:' "$log"; then
      exit 1
    fi
    echo "fuzz: $target ran out of time while minimizing, and found nothing"
  fi
  count=$((count + 1))
done <<<"$targets"
printf '\nfuzz: %d targets, %s each\n' "$count" "$fuzztime"
