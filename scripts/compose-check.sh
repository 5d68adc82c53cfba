#!/usr/bin/env bash
# compose-check.sh: holds docker-compose.yml against the compose specification, builds
# the processor as deploy/Dockerfile does, from what .dockerignore leaves, and, on the
# Kafka that SORTITION_KAFKA names, runs the services' commands as plain processes until
# decisions and events have come through. Needs no container engine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd deploy/composecheck && go mod tidy -diff && go vet ./... && go test ./... && go build -o "$work/composecheck" .)

build=$(sed -n 's:^RUN \(CGO_ENABLED=0 go build .*\)$:\1:p' deploy/Dockerfile)
if [[ $build != *"/out/processor ./cmd/processor" ]]; then
  echo "compose-check: deploy/Dockerfile has no build command that is known here" >&2
  exit 1
fi
"$work/composecheck" --root "$root" --context "$work/context"
(cd "$work/context" && bash -euc "${build//\/out\/processor/$work/processor}")
go version -m "$work/processor" | grep -q 'CGO_ENABLED=0' || { echo "compose-check: the processor is not static" >&2; exit 1; }
echo "the image's context is $(du -sh "$work/context" | cut -f1), the processor $(du -h "$work/processor" | cut -f1), static"

if [[ -n ${SORTITION_KAFKA:-} ]]; then
  "$work/composecheck" --root "$root" --processor "$work/processor" --kafka "$SORTITION_KAFKA"
else
  "$work/composecheck" --root "$root"
  echo "compose-check: NOT RUN as processes: SORTITION_KAFKA is not set (make kafka starts one)"
  [[ ${CI:-} != true ]]
fi
