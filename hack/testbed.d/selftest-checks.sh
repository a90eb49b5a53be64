# shellcheck shell=bash disable=SC2016,SC2317 # words for another shell; functions that `eventually` calls
# The checks of `selftest`. Each is a function that fails by a failing command; what it prints is shown then.

scripts_are_clean() {
  command -v shellcheck || { apt-get install -y --no-install-recommends shellcheck; }
  cd "$HERE/.." || return 1
  shellcheck -x testbed testbed.d/selftest testbed.d/*.sh
}

# refused TEXT COMMAND…: fails, and its last line contains TEXT.
refused() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "should have failed: $*"
    return 1
  fi
  echo "$output"
  grep -qF "$text" <<<"$(tail -n 1 <<<"$output")"
}

# eventually SECONDS COMMAND…
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

bad_input_is_refused() {
  refused "unknown command 'fly'" "$BED" fly
  refused "no part 'mysql'" "$BED" up mysql
  refused "no 'kafka-9' in this bed" "$BED" stop kafka-9
  refused "there is no image archive /none" "$BED" load-image /none
  refused "is no port number" "$BED" extra-kafka other none
  refused "can be 1 or 3" env KAFKA_BROKERS=2 bash -c '"$1" up kafka 2>&1 | sed "/did not come up/d"; exit 1' _ "$BED"
  refused "is not a test bed's" env SPILLWAY_TESTBED_DIR=/etc SPILLWAY_TESTBED_RUN=/etc "$BED" up kafka
  cp -r "$HERE/.." "$SCRATCH/hack"
  chmod -R a+rX "$SCRATCH"
  refused "needs root" setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp "$SCRATCH/hack/testbed" up
}

# other_ports_start_afresh: what the message about a taken port advises works, and a running bed keeps its ports.
other_ports_start_afresh() {
  SPILLWAY_TESTBED_PORT_BASE=25910 "$BED" up rabbitmq
  (
    unset SPILLWAY_TESTBED_PORT_BASE
    "$BED" env | grep -F 127.0.0.1:25931
    "$BED" up rabbitmq
    "$BED" status | grep 'rabbitmq *ready .*25930,25931'
  )
  refused "up on other ports" "$BED" up rabbitmq
  "$BED" stop rabbitmq
  "$BED" up rabbitmq
  "$BED" status | grep 'rabbitmq *ready .*25920,25921'
}

taken_port_is_named() {
  timeout 60 bash -c 'exec -a squatter python3 -m http.server --bind 127.0.0.1 25920' &
  local squatter=$!
  eventually 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/25920'
  "$BED" up rabbitmq >"$SCRATCH/taken" 2>&1 && return 1
  cat "$SCRATCH/taken"
  kill "$squatter"
  grep -qE "rabbitmq needs port 25920, which .*process [0-9]+\) holds" "$SCRATCH/taken"
}

failing_part_shows_its_log() {
  "$BED" down
  SPILLWAY_TESTBED_PORT_RABBITMQ_AMQP=99999 "$BED" up rabbitmq >"$SCRATCH/failing" 2>&1 && return 1
  cat "$SCRATCH/failing"
  grep -q '^    rabbitmq: ' "$SCRATCH/failing"
  grep -q 'rabbitmq ended before it was ready; its whole log: ' "$SCRATCH/failing"
  "$BED" down
}

given_addresses_pass_through() {
  export KUBECONFIG=/some/where SPILLWAY_TEST_KAFKA=127.0.0.1:1 SPILLWAY_TEST_RABBITMQ=http://a:b@127.0.0.1:2
  "$BED" up
  [[ $("$BED" env) == *KUBECONFIG=/some/where* && $("$BED" env) == *SPILLWAY_TEST_KAFKA=127.0.0.1:1* ]]
  [[ $("$BED" status | grep -c given) == 3 ]]
}

everything_is_ready() {
  "$BED" status
  [[ $("$BED" status | grep -c ' ready ') == 8 ]]
}

pids() { "$BED" status | awk '{ print $2, $4 }'; }

second_up_changes_nothing() {
  local before
  before=$(pids)
  "$BED" up
  [[ $(pids) == "$before" ]]
}

two_ups_at_once() {
  flock "$SPILLWAY_TESTBED_DIR/locks/$(printf %s "$RUN" | sha256sum | cut -c1-8)" sleep 8 &
  sleep 0.5
  refused "another hack/testbed command is at work" "$BED" up
  wait
}

deployment() {
  kubectl apply -f - <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: 3
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: "$2", imagePullPolicy: Never, args: [say, hello]}]
YAML
}

deployment_runs() {
  deployment pods spillway.dev/testbed/pause:1
  kubectl rollout status deployment/pods --timeout=60s
  kubectl scale deployment/pods --replicas=6
  kubectl rollout status deployment/pods --timeout=60s
  [[ $(kubectl get pods -l app=pods --field-selector=status.phase=Running -o name | wc -l) == 6 ]]
  [[ $(kubectl logs deployment/pods) == hello ]]
  [[ $(kubectl exec deployment/pods -- /pause echo it works) == "it works" ]]
  kubectl delete deployment/pods --wait
  eventually 30 bash -c '[[ -z $(kubectl get pods -l app=pods -o name) ]]'
}

image_is_loaded() {
  mkdir "$SCRATCH/image"
  tar -C "$SCRATCH/image" -xf "$SPILLWAY_TESTBED_DIR"/artefacts/pause-*/image.tar
  sed -i 's#spillway.dev/testbed/pause:1#localhost/selftest:7#' "$SCRATCH/image/manifest.json"
  tar -C "$SCRATCH/image" -cf "$SCRATCH/image.tar" .
  $SPILLWAY_TEST_LOAD_IMAGE "$SCRATCH/image.tar"
  deployment loaded localhost/selftest:7
  kubectl rollout status deployment/loaded --timeout=60s
  kubectl delete deployment/loaded
  refused "is it an OCI or docker archive" "$BED" load-image "$HERE/selftest"
}

audit_log_counts_writes() {
  local before
  writes() { jq -s 'map(select(.user.username == "admin" and .objectRef.name == "audited")) | length' "$SPILLWAY_TEST_AUDIT_LOG"; }
  before=$(writes)
  kubectl create configmap audited
  kubectl get configmap audited
  kubectl delete configmap audited
  [[ $(($(writes) - before)) == 2 ]]
}

kafka_listeners_answer() {
  local user="username=\"$SPILLWAY_TEST_KAFKA_USER\"" password="password=\"$SPILLWAY_TEST_KAFKA_PASSWORD\"" file=$SCRATCH/client
  local scram=org.apache.kafka.common.security.scram.ScramLoginModule plain=org.apache.kafka.common.security.plain.PlainLoginModule
  local tls=("ssl.truststore.type=PEM" "ssl.truststore.location=$SPILLWAY_TEST_KAFKA_CA")
  list() { # SERVERS PROPERTY…
    local servers=$1
    shift
    printf '%s\n' "$@" default.api.timeout.ms=5000 request.timeout.ms=4000 >"$file"
    kafka-topics --bootstrap-server "$servers" --command-config "$file" --list | grep -x listeners >/dev/null
  }
  kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA" --create --if-not-exists --topic listeners --partitions 3
  list "$SPILLWAY_TEST_KAFKA_SASL" security.protocol=SASL_PLAINTEXT sasl.mechanism=SCRAM-SHA-512 "sasl.jaas.config=$scram required $user $password;"
  list "$SPILLWAY_TEST_KAFKA_SASL" security.protocol=SASL_PLAINTEXT sasl.mechanism=PLAIN "sasl.jaas.config=$plain required $user $password;"
  list "$SPILLWAY_TEST_KAFKA_SASL_SSL" security.protocol=SASL_SSL sasl.mechanism=SCRAM-SHA-256 "sasl.jaas.config=$scram required $user $password;" "${tls[@]}"
  cat "$SPILLWAY_TEST_KAFKA_KEY" "$SPILLWAY_TEST_KAFKA_CERT" >"$SCRATCH/client.pem"
  list "$SPILLWAY_TEST_KAFKA_SSL" security.protocol=SSL "${tls[@]}" ssl.keystore.type=PEM "ssl.keystore.location=$SCRATCH/client.pem"
  ! list "$SPILLWAY_TEST_KAFKA_SSL" security.protocol=SSL "${tls[@]}" || return 1
  ! list "$SPILLWAY_TEST_KAFKA_SASL" security.protocol=SASL_PLAINTEXT sasl.mechanism=SCRAM-SHA-512 "sasl.jaas.config=$scram required $user password=\"wrong\";" || return 1
}

management() { curl -sf --noproxy '*' -H 'content-type: application/json' -X "$1" "$SPILLWAY_TEST_RABBITMQ/api/$2" ${3:+-d "$3"}; }

rabbitmq_works() {
  management PUT queues/%2F/selftest '{"durable":true,"arguments":{"x-queue-type":"quorum"}}'
  management POST exchanges/%2F/amq.default/publish '{"routing_key":"selftest","payload":"hi","payload_encoding":"string","properties":{"delivery_mode":2}}' | grep -F '"routed":true'
  [[ $(management POST queues/%2F/selftest/get '{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}' | jq -r '.[0].payload') == hi ]]
  rabbitmqctl list_queues name | grep -x selftest >/dev/null
}

rabbitmq_speaks_tls() {
  local tls=(curl -sf -o /dev/null --noproxy '*' -u guest:guest "$SPILLWAY_TEST_RABBITMQ_TLS/api/vhosts")
  "${tls[@]}" --cacert "$SPILLWAY_TEST_RABBITMQ_CA"
  "${tls[@]}" --cacert "$SPILLWAY_TEST_RABBITMQ_CA" --cert "$SPILLWAY_TEST_RABBITMQ_CERT" --key "$SPILLWAY_TEST_RABBITMQ_KEY"
  ! "${tls[@]}" || return 1
  ! "${tls[@]}" --cacert "$SPILLWAY_TEST_RABBITMQ_CA" --cert "$SPILLWAY_TEST_KAFKA_CERT" --key "$SPILLWAY_TEST_KAFKA_KEY" || return 1
  openssl s_client -connect "${SPILLWAY_TEST_AMQPS#amqps://}" -CAfile "$SPILLWAY_TEST_RABBITMQ_CA" -verify_return_error </dev/null
}

# mark, marked PART: leaves something in the part, and finds it again.
mark() {
  case $1 in
    kafka) kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA" --create --if-not-exists --topic mark --partitions 1 ;;
    rabbitmq) management PUT queues/%2F/mark '{"durable":true}' ;;
    kubernetes)
      deployment mark spillway.dev/testbed/pause:1
      kubectl rollout status deployment/mark --timeout=60s
      ;;
  esac
}
marked() {
  case $1 in
    kafka) kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA" --list | grep -x mark >/dev/null ;;
    rabbitmq) management GET queues/%2F/mark >/dev/null ;;
    kubernetes) kubectl get deployment mark >/dev/null && kubectl rollout status deployment/mark --timeout=60s ;;
  esac
}

survives() {
  mark "$2"
  "$BED" "$1" "$2"
  [[ $("$BED" status | awk -v part="$2" '$1 == part' | grep -c ' ready ') == 0 ]]
  "$BED" start "$2"
  marked "$2"
  everything_is_ready
}

up_heals() {
  local pid
  pid=$("$BED" status | awk -v unit="$1" '$2 == unit { print $4 }')
  kill -KILL "$pid"
  eventually 10 bash -c '! kill -0 "$1" 2>/dev/null' _ "$pid"
  "$BED" up
  everything_is_ready
}

extra_kafka_works() {
  local topics=(kafka-topics --bootstrap-server 127.0.0.1:25990)
  "$BED" extra-kafka other 25990
  "${topics[@]}" --create --topic there --partitions 2
  refused "already exists on port 25990" "$BED" extra-kafka other 25995
  "$BED" stop kafka-other
  "$BED" start kafka-other
  "$BED" kill kafka-other
  "$BED" status | grep 'kafka-other.*dead'
  "$BED" start kafka-other
  "${topics[@]}" --list | grep -x there >/dev/null
  "$BED" logs kafka-other | grep 'Kafka Server started' >/dev/null
}

extra_kafka_cluster_works() {
  local topics=(kafka-topics --bootstrap-server "127.0.0.1:25980,127.0.0.1:25982,127.0.0.1:25984")
  "$BED" extra-kafka tri 25980 --nodes 3
  "${topics[@]}" --create --topic there --partitions 3 --replication-factor 3
  refused "kafka-tri already exists with 3 process(es)" "$BED" extra-kafka tri 25980
  refused "belongs to kafka-tri" "$BED" extra-kafka tri-2 25990
  "$BED" kill kafka-tri-2
  led() { [[ -z $("${topics[@]}" --describe --unavailable-partitions) ]]; }
  eventually 30 led
  "$BED" start kafka-tri-2
  in_sync() { [[ -z $("${topics[@]}" --describe --under-replicated-partitions) ]]; }
  eventually 30 in_sync
}

extra_management() { curl -sf -m 40 --noproxy '*' -u guest:guest "http://127.0.0.1:$1/api/$2" "${@:3}"; }

extra_rabbitmq_works() {
  "$BED" extra-rabbitmq other 25940
  extra_management 25940 queues/%2F/there -X PUT -d '{"durable":true}'
  refused "already exists with 1 node(s) on port 25940" "$BED" extra-rabbitmq other 25945
  [[ $(extra_management 25940 global-parameters/internal_cluster_id) != "$(management GET global-parameters/internal_cluster_id)" ]]
  "$BED" stop rabbitmq-other
  "$BED" start rabbitmq-other
  "$BED" kill rabbitmq-other
  "$BED" status | grep 'rabbitmq-other.*dead'
  "$BED" start rabbitmq-other
  extra_management 25940 queues/%2F/there >/dev/null
  rabbitmqctl-other list_queues name | grep -x there >/dev/null
}

extra_rabbitmq_cluster_works() {
  "$BED" extra-rabbitmq tri 25950 --nodes 3
  extra_management 25960 queues/%2F/there -X PUT -d '{"durable":true,"arguments":{"x-queue-type":"quorum"}}'
  "$BED" kill rabbitmq-tri-2
  "$BED" kill rabbitmq-tri-3
  state() { [[ $(extra_management 25950 queues/%2F/there | jq -r .state) == "$1" ]]; }
  eventually 30 state minority
  "$BED" start rabbitmq-tri
  eventually 30 state running
}

# shared_places: what every bed uses, if it is there.
shared_places() {
  local place
  for place in /run/containerd /var/lib/kubelet /var/log/containers /opt/containerd /opt/cni /etc/cni /sys/fs/cgroup{,/*}/k8s.io; do
    if [[ -e $place ]]; then echo "$place"; fi
  done | sort
}

# leaves_nothing: processes, mounts, addresses, control groups, folders.
leaves_nothing() {
  "$BED" down
  local left=0 commands
  mapfile -t commands < <(find /proc -maxdepth 2 -name cmdline -not -path "/proc/$$/*" -not -path "/proc/$BASHPID/*" 2>/dev/null)
  none() { # WHAT COMMAND…
    local what=$1 found
    shift
    found=$("$@" || true)
    [[ -z $found ]] || { echo "left: $what: $found"; left=1; }
  }
  none processes grep -alF -- "$RUN/" "${commands[@]}"
  none ports ss -ltnpH '( sport >= :25900 and sport <= :25999 )'
  none mounts grep -F "$RUN" /proc/self/mountinfo
  none address ip -o address show to 198.51.100.10
  none groups find /sys/fs/cgroup -maxdepth 3 -name "spillway-testbed-$(printf %s "$RUN" | sha256sum | cut -c1-8)"
  none sockets comm -23 <(find /run/containerd/s -type s 2>/dev/null | sort) <(ss -lxH | awk '{ print $5 }' | sort)
  none folder ls -d "$RUN" 2>/dev/null
  none memory ls -d "/dev/shm/spillway-testbed-$(printf %s "$RUN" | sha256sum | cut -c1-8)" 2>/dev/null
  # What the machine had before stays, and while another node runs these places are its own.
  { pgrep -x kubelet || pgrep -x containerd; } >/dev/null || none folders comm -13 "$SCRATCH/before" <(shared_places)
  return $left
}

# up_ended SIGNAL SECONDS: ends an up after a while: KILL ends the script only, INT its whole group, as Ctrl-C does.
up_ended() {
  local up target
  setsid env --default-signal=INT "$BED" up >"$SCRATCH/ended" 2>&1 &
  up=$!
  [[ $1 == INT ]] && target=-$up || target=$up
  sleep "$2"
  kill "-$1" -- "$target"
  ! wait "$up"
  cat "$SCRATCH/ended"
  [[ $1 == KILL ]] || grep 'interrupted: run up again' >/dev/null "$SCRATCH/ended"
}

killed_up_is_tidied() {
  "$BED" down
  up_ended "$1" 2
  leaves_nothing
}

killed_up_goes_on() {
  up_ended KILL 2
  "$BED" up
  everything_is_ready
}

reboot_starts_afresh() {
  mark kubernetes
  echo before >"$RUN/boot-id"
  "$BED" up
  everything_is_ready
  ! marked kubernetes
}

three_brokers_work() {
  "$BED" down
  KAFKA_BROKERS=3 "$BED" up kafka
  eval "$("$BED" env)"
  local topics=(kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA")
  "${topics[@]}" --create --topic replicated --partitions 3 --replication-factor 3
  [[ -z $("${topics[@]}" --describe --under-replicated-partitions) ]]
  "$BED" kill kafka-2
  under_replicated() { [[ $("${topics[@]}" --describe --under-replicated-partitions | grep -c replicated) == 3 ]]; }
  eventually 30 under_replicated
  "$BED" up kafka
  in_sync() { [[ -z $("${topics[@]}" --describe --under-replicated-partitions) ]]; }
  eventually 30 in_sync
}

half_install_is_redone() {
  unset SPILLWAY_TEST_KAFKA
  export SPILLWAY_TESTBED_DIR=$SCRATCH/cache SPILLWAY_TESTBED_RUN=$SCRATCH/run SPILLWAY_TESTBED_PORT_BASE=26900
  "$BED" up kafka >"$SCRATCH/half" 2>&1 &
  eventually 60 bash -c 'ls -d "$1"/artefacts/.building-kafka-* 2>/dev/null' _ "$SPILLWAY_TESTBED_DIR"
  kill -KILL $!
  cat "$SCRATCH/half"
  [[ -z $(ls "$SPILLWAY_TESTBED_DIR/artefacts") ]]
  "$BED" up kafka
  "$BED" clean
  [[ ! -e $SPILLWAY_TESTBED_DIR && ! -e $SPILLWAY_TESTBED_RUN ]]
}
