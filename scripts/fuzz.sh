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

count=0
while read -r package target; do
  printf '\n--- %s %s\n' "$package" "$target"
  go test -run '^$' -fuzz "^${target}\$" -fuzztime "$fuzztime" "$package"
  count=$((count + 1))
done <<<"$targets"
printf '\nfuzz: %d targets, %s each\n' "$count" "$fuzztime"
