#!/usr/bin/env bash
# bench-stream.sh: measure the stream on a real Apache Kafka and write
# docs/bench/stream.txt, with machine, Go version, revision and commands. The broker is
# the one of SORTITION_KAFKA, or one that is started for it and stopped afterwards.
# ACTIVITIES (200000), ROUNDS (5), FOR (60s) and MEMORY (10000000; 0: left out) set the size.
set -euo pipefail

file=docs/bench/stream.txt
binary=$(mktemp -d)/processor
go build -trimpath -o "$binary" ./cmd/processor
stop=false
cleanup() {
  rm -rf "$(dirname "$binary")"
  if $stop; then internal/kafkatest/kafka.sh stop; fi
}
trap cleanup EXIT
if [ -z "${SORTITION_KAFKA:-}" ]; then
  internal/kafkatest/kafka.sh status >/dev/null || stop=true
  SORTITION_KAFKA=$(internal/kafkatest/kafka.sh start | tail -n 1)
  SORTITION_KAFKA=${SORTITION_KAFKA#SORTITION_KAFKA=}
fi

revision=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- '*.go' go.mod || revision="$revision, with changes"
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
cpu=${cpu:-$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)}

# The command as somebody would type it, then what it says.
bench() {
  echo
  echo "# processor bench --brokers HOST:PORT $*"
  "$binary" bench --brokers "$SORTITION_KAFKA" "$@" | sed "s/at $SORTITION_KAFKA/given/"
}
{
  echo "# $(date -u +%F) · revision $revision · $(go env GOVERSION) $(go env GOOS)/$(go env GOARCH) · ${cpu} · $(getconf _NPROCESSORS_ONLN) cores, shared with the broker; load $(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown)"
  for codec in none lz4 zstd; do
    bench --codec "$codec" --activities "${ACTIVITIES:-200000}" --rounds "${ROUNDS:-5}" --for 0s
  done
  bench --rows latency --rate 5000 --for "${FOR:-60s}"
  if [ "${MEMORY:-10000000}" != 0 ]; then
    bench --memory --activities "${MEMORY:-10000000}"
  fi
} | tee "$file.new"
mv "$file.new" "$file"
