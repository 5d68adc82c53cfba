#!/usr/bin/env bash
# Starts and stops a real Redis on loopback for tests.
#
#   redis.sh start   start it and wait until it answers; prints
#                    SORTITION_REDIS=redis://127.0.0.1:PORT/0 (for `export`)
#   redis.sh stop    stop the server that start started
#
# Needs redis-server (Debian: redis-server). Port and folder are its own: a Redis
# that runs already is left alone. Nothing is written to disk but log and pid, in
# .cache/redis.
set -euo pipefail

dir=$(cd "$(dirname "$0")/.." && pwd)/.cache/redis

die() { echo "redis.sh: $*" >&2; exit 1; }

# The pid in the file may belong to something else by now: only a redis-server at
# the port we gave is ours.
pid() {
  [[ -f $dir/pid && -f $dir/port ]] || return 1
  local p
  p=$(cat "$dir/pid")
  ps -o args= -p "$p" 2>/dev/null | grep -qE "redis-server.*:$(cat "$dir/port")( |$)" || return 1
  echo "$p"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# It serves; merely listening comes earlier.
answers() {
  local line
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'PING\r\n' >&3
  IFS= read -r -t 2 line <&3 || line=
  exec 3>&- 3<&-
  [[ $line == +PONG* ]]
}

start() {
  command -v redis-server >/dev/null || die "redis-server is needed (Debian: apt-get install redis-server)"
  mkdir -p "$dir"
  if ! pid >/dev/null; then
    local port
    for _ in $(seq 200); do
      port=$((20000 + RANDOM % 10000))
      listens "$port" || break
    done
    echo "$port" >"$dir/port"
    rm -f "$dir/pid"
    redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --pidfile "$dir/pid" --logfile "$dir/log" \
      --daemonize yes --save "" --appendonly no >/dev/null
    for _ in $(seq 100); do
      pid >/dev/null && answers "$port" 2>/dev/null && break
      sleep 0.1
    done
  fi
  pid >/dev/null || die "it did not start, see $dir/log"
  echo "SORTITION_REDIS=redis://127.0.0.1:$(cat "$dir/port")/0"
}

stop() {
  local p
  p=$(pid) || return 0
  kill "$p"
  for _ in $(seq 100); do
    kill -0 "$p" 2>/dev/null || break
    sleep 0.1
  done
  kill -0 "$p" 2>/dev/null && die "process $p does not end"
  rm -f "$dir/pid" "$dir/port"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  *) die "start or stop" ;;
esac
