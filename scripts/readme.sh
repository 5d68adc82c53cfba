#!/usr/bin/env bash
# readme.sh FILE: run the commands of a Markdown file, so that they stay true.
# A fenced block is run if the line <!-- run --> stands above it: all lines of a
# `sh` block, the lines after "$ " of a `console` block. The blocks run in the
# repository's root, in order; the first failure ends it. Finding none is a failure.
set -euo pipefail

file=$1
commands=$(awk '
  /^<!-- run -->$/ { marked = 1; next }
  /^```/ {
    if (inside) { inside = 0; print "" }
    else if (marked) { inside = 1; console = ($0 ~ /console/) }
    marked = 0; next
  }
  inside && console { if (sub(/^\$ /, "") || more) { print; more = /\\$/ } next }
  inside { print }
' "$file")
if [[ -z ${commands//[[:space:]]/} ]]; then
  echo "readme: $file has no block marked <!-- run -->" >&2
  exit 1
fi
cd "$(git rev-parse --show-toplevel)"
# Each command is shown, then run in a shell of its own kind: a failure is a failure.
bash -euo pipefail -v -c "$commands" </dev/null
