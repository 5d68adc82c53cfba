#!/usr/bin/env bash
# bench.sh [--print] PACKAGE...: run the benchmarks and write docs/bench/NAME.txt,
# one file a package, with machine, Go version and revision at its head. Git keeps
# the older ones. With --print nothing is written.
set -euo pipefail

print=false
if [[ ${1:-} == --print ]]; then
  print=true
  shift
fi

revision=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- '*.go' go.mod || revision="$revision, with changes"
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
cpu=${cpu:-$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)}
head="# $(date -u +%F) · revision $revision · $(go env GOVERSION) $(go env GOOS)/$(go env GOARCH) · ${cpu} · $(getconf _NPROCESSORS_ONLN) cores"

found=0
for package in $(go list "$@"); do
  dir=$(go list -f '{{.Dir}}' "$package")
  grep -qs '^func Benchmark' "$dir"/*_test.go || continue
  found=$((found + 1))
  command=(go test -run '^$' -bench "${BENCH:-.}" -benchmem -benchtime "${BENCHTIME:-1s}" -count "${COUNT:-6}" "$package")
  if $print; then
    "${command[@]}"
    continue
  fi
  name=${package#*/}
  file=docs/bench/${name//\//-}.txt
  mkdir -p docs/bench
  {
    echo "$head"
    echo "# ${command[*]}"
    "${command[@]}"
  } | tee "$file.new"
  mv "$file.new" "$file"
done
if ((found == 0)); then
  echo "bench: no benchmark in $*" >&2
  exit 1
fi
