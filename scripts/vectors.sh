#!/usr/bin/env bash
# vectors.sh: compare with the SDKs' recorded answers, in the engine and through
# the real binary, and print passed/total by file. The tests print lines with
# "N/N"; a run without any such line has compared nothing and fails.
set -euo pipefail

out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
go test -count=1 -v -run '^Test(Vectors|BucketingVectors|BatchHeads)' ./decision ./cmd/processor >"$out" 2>&1 || status=$?
if ((status != 0)); then
  grep -vE '^ *(=== (RUN|PAUSE|CONT|NAME)|--- PASS)' "$out" || true
  exit "$status"
fi
if ! grep -E '[0-9]+/[0-9]+' "$out"; then
  cat "$out"
  echo "vectors: no vector was compared" >&2
  exit 1
fi
for package in decision cmd/processor; do
  if ! grep -qE "^ok[[:space:]]+[^[:space:]]*/$package[[:space:]]" "$out" || grep -qE "/$package[[:space:]].*no tests to run" "$out"; then
    echo "vectors: ./$package has no test TestVectors..." >&2
    exit 1
  fi
done
