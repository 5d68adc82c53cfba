#!/usr/bin/env bash
# Starts and stops a real Apache Kafka (KRaft, one node, loopback) for tests.
#
#   kafka.sh start [PORT]   fetch it if needed, start it, wait until it answers;
#                           prints SORTITION_KAFKA=127.0.0.1:PORT (for `export`)
#   kafka.sh stop           stop the broker that start started
#   kafka.sh restart        stop it and start it again on the same port with the same
#                           data; restart hard: stop it with SIGKILL
#   kafka.sh status         print the address if it runs, exit 1 otherwise
#   kafka.sh fetch          only fetch it
#
# Needs Java 17 or newer; fetching also needs Maven. Everything is kept in
# $KAFKA_DIR (default: .cache/kafka in the repository, which git ignores): jars of
# the versions pinned in pom.xml, a private Maven repository, data and log. One
# broker runs at a time. KAFKA_VERSION chooses: 4 (the default) and 3.9 are the
# pinned versions, anything else is taken literally. Data do not outlive a start.
#
# A second listener, which the first one's configuration names, asks for SASL:
# OAUTHBEARER with unsigned tokens, PLAIN and SCRAM-SHA-512 for the user "tester".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${KAFKA_DIR:-$(cd "$here/../.." && pwd)/.cache/kafka}
pinned() { sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p" "$here/pom.xml"; }
version=${KAFKA_VERSION:-4}
case $version in
  4) version=$(pinned kafka.version) ;;
  3.9) version=$(pinned kafka.older) ;;
esac
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
    [ "$(cat "$run/version")" = "$version" ] || die "Kafka $(cat "$run/version") is running: stop it first"
    cat "$run/address"
    return
  fi
  command -v java >/dev/null || die "Java 17 or newer is needed"
  fetch
  local port=${1:-$(free_port)} controller sasl
  controller=$(free_port)
  while [ "$controller" = "$port" ]; do controller=$(free_port); done
  sasl=$(free_port)
  while [ "$sasl" = "$port" ] || [ "$sasl" = "$controller" ]; do sasl=$(free_port); done
  answers "$port" && die "port $port is taken"
  rm -rf "$run"
  mkdir -p "$run"
  cat >"$run/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,SASL://127.0.0.1:$sasl,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL://127.0.0.1:$sasl
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=OAUTHBEARER,PLAIN,SCRAM-SHA-512
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_tester="for-tests-only";
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$run/data
auto.create.topics.enable=false
num.partitions=4
offsets.topic.num.partitions=4
log.retention.ms=-1
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
  java_main error kafka.tools.StorageTool format -t "$id" -c "$run/server.properties" \
    --add-scram 'SCRAM-SHA-512=[name=tester,password=for-tests-only]' >>"$log" 2>&1 ||
    die "cannot format storage, see $log"
  echo "$version" >"$run/version"
  launch "$port"
}

# Start the broker on what is in $run.
launch() {
  local port=$1
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

restart() {
  local p port
  p=$(pid) || die "no broker is running"
  port=$(sed -n 's/.*=.*:\([0-9]*\)$/\1/p' "$run/address")
  jars=$dir/jars-$(cat "$run/version")
  case "${1:-}" in
    hard) kill -9 "$p" ;;
    "") stop ;;
    *) die "restart: want nothing, or hard" ;;
  esac
  while kill -0 "$p" 2>/dev/null; do sleep 0.1; done
  launch "$port"
}

case "${1:-}" in
  start) start "${2:-}" ;;
  stop) stop ;;
  restart) restart "${2:-}" ;;
  status) pid >/dev/null && cat "$run/address" ;;
  fetch) fetch ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
