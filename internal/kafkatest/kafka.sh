#!/usr/bin/env bash
# Starts and stops a real Apache Kafka (KRaft, one node, loopback) for tests.
#
#   kafka.sh start [PORT]   fetch it if needed, start it, wait until it answers;
#                           prints SORTITION_KAFKA=127.0.0.1:PORT (for `export`)
#   kafka.sh stop           stop the broker that start started
#   kafka.sh status         print the address if it runs, exit 1 otherwise
#   kafka.sh fetch          only fetch it
#
# Needs Java 17 or newer; fetching also needs Maven. Everything is kept in
# $KAFKA_DIR (default: .cache/kafka in the repository, which git ignores): jars of
# the versions pinned in pom.xml, a private Maven repository, data and log.
# KAFKA_VERSION chooses another version of Kafka. Data do not outlive a start.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${KAFKA_DIR:-$(cd "$here/../.." && pwd)/.cache/kafka}
version=${KAFKA_VERSION:-$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")}
jars=$dir/jars-$version
run=$dir/run
log=$run/broker.log

die() { echo "kafka.sh: $*" >&2; exit 1; }

fetch() {
  [ -f "$jars/.complete" ] && return
  command -v mvn >/dev/null || die "Maven (mvn) is needed to fetch Apache Kafka $version"
  echo "kafka.sh: fetching Apache Kafka $version" >&2
  rm -rf "$jars"
  mkdir -p "$jars"
  mvn --quiet --batch-mode -Dstyle.color=never --file "$here/pom.xml" -Dmaven.repo.local="$dir/m2" -Dkafka.version="$version" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars" >&2 ||
    die "cannot fetch Apache Kafka $version"
  touch "$jars/.complete"
}

# The pid in the file may belong to something else by now: only a process whose
# command line names our configuration is ours.
pid() {
  [ -f "$run/pid" ] || return 1
  local p
  p=$(cat "$run/pid")
  ps -o args= -p "$p" 2>/dev/null | grep -qF "$run/server.properties" || return 1
  echo "$p"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Two ports that nothing listens on, below the range the system gives to clients.
free_port() {
  local p
  for _ in $(seq 200); do
    p=$((20000 + RANDOM % 10000))
    answers "$p" || { echo "$p"; return; }
  done
  die "no free port found"
}

java_main() { java "-Dorg.slf4j.simpleLogger.defaultLogLevel=$1" -cp "$jars/*" "${@:2}"; }

start() {
  if pid >/dev/null; then
    cat "$run/address"
    return
  fi
  command -v java >/dev/null || die "Java 17 or newer is needed"
  fetch
  local port=${1:-$(free_port)} controller
  controller=$(free_port)
  while [ "$controller" = "$port" ]; do controller=$(free_port); done
  answers "$port" && die "port $port is taken"
  rm -rf "$run"
  mkdir -p "$run"
  cat >"$run/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$run/data
auto.create.topics.enable=false
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=200
PROPERTIES
  local id
  id=$(java_main error kafka.tools.StorageTool random-uuid)
  java_main error kafka.tools.StorageTool format -t "$id" -c "$run/server.properties" >>"$log" 2>&1 ||
    die "cannot format storage, see $log"
  java -Xms256m -Xmx768m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$jars/*" kafka.Kafka "$run/server.properties" >>"$log" 2>&1 </dev/null &
  echo $! >"$run/pid"
  disown
  local deadline=$((SECONDS + 60))
  until answers "$port"; do
    pid >/dev/null || die "the broker ended, see $log"
    [ $SECONDS -lt $deadline ] || die "the broker does not answer, see $log"
    sleep 0.1
  done
  echo "SORTITION_KAFKA=127.0.0.1:$port" >"$run/address"
  cat "$run/address"
}

stop() {
  local p
  p=$(pid) || { rm -f "$run/pid" "$run/address"; return 0; }
  kill "$p"
  local deadline=$((SECONDS + 20))
  while kill -0 "$p" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || kill -9 "$p" 2>/dev/null || true
    sleep 0.1
  done
  rm -f "$run/pid" "$run/address"
}

case "${1:-}" in
  start) start "${2:-}" ;;
  stop) stop ;;
  status) pid >/dev/null && cat "$run/address" ;;
  fetch) fetch ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
