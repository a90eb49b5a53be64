# shellcheck shell=bash
# Kafka in KRaft mode: one broker, or three with KAFKA_BROKERS=3, each broker and controller in one process.
# Listeners: PLAINTEXT, SASL_PLAINTEXT (SCRAM-SHA-512, SCRAM-SHA-256, PLAIN), SASL_SSL, and SSL with a client certificate.

KAFKA_DATA=$RUN/data/kafka
KAFKA_USER=spillway
KAFKA_PASSWORD=spillway-secret

kafka_artefact() { echo "$ARTEFACTS/kafka-$KAFKA_VERSION-$(digest "$BED_SOURCE/kafka/pom.xml")"; }
kafka_install() { artefact kafka "$(basename "$(kafka_artefact)")" kafka; }

# kafka_java MAIN ARGUMENTS…: the flags trade peak speed for a start within seconds. The heap grows to what is needed:
# with half a gigabyte, a broker of 10,000 topics collected garbage half of the time, and benches measured that.
KAFKA_JAVA=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx2g -Djava.awt.headless=true)
kafka_class_path() { echo "$(kafka_artefact)/libs/*"; }

# kafka_port BROKER OFFSET
kafka_port() { echo $((PORT_KAFKA + 10 * ($1 - 1) + $2)); }

# kafka_wanted: how many brokers a fresh start makes; kafka_count: how many this bed has (0 before the first start).
kafka_wanted() {
  case ${KAFKA_BROKERS:-1} in
    1 | 3) echo "${KAFKA_BROKERS:-1}" ;;
    *) die "KAFKA_BROKERS is '$KAFKA_BROKERS': it can be 1 or 3" ;;
  esac
}
kafka_count() { cat "$KAFKA_DATA/brokers" 2>/dev/null || echo 0; }

# kafka_bootstrap OFFSET [BROKERS]: the servers of one listener, as clients want them.
kafka_bootstrap() {
  local broker brokers list=()
  brokers=${2:-$(kafka_count)}
  for ((broker = 1; broker <= brokers; broker++)); do list+=("127.0.0.1:$(kafka_port "$broker" "$1")"); done
  (
    IFS=,
    echo "${list[*]}"
  )
}

kafka_part_up() {
  local broker brokers wanted
  wanted=$(kafka_wanted)
  kafka_install
  brokers=$(kafka_count)
  if ((brokers == 0)); then
    brokers=$wanted
    mkdir -p "$KAFKA_DATA"
    write_file "$KAFKA_DATA/brokers" <<<"$brokers"
  elif [[ -n ${KAFKA_BROKERS:-} ]] && ((brokers != wanted)); then
    die "kafka is up with $brokers broker(s) and KAFKA_BROKERS=$KAFKA_BROKERS asks for another number: run down first"
  fi
  ca_ready "$KAFKA_DATA/pki" "Spillway test bed Kafka"
  leaf_ready "$KAFKA_DATA/pki" broker /CN=localhost IP:127.0.0.1,DNS:localhost
  leaf_ready "$KAFKA_DATA/pki" client "/CN=$KAFKA_USER" ""
  cat "$KAFKA_DATA/pki/broker.key" "$KAFKA_DATA/pki/broker.crt" >"$KAFKA_DATA/pki/broker.pem"
  [[ -e $KAFKA_DATA/cluster-id ]] || kafka_cluster_id | write_file "$KAFKA_DATA/cluster-id"
  for ((broker = 1; broker <= brokers; broker++)); do kafka_broker_configure "$broker" "$brokers"; done
  for ((broker = 1; broker <= brokers; broker++)); do kafka_unit_start kafka "kafka-$broker"; done
  for ((broker = 1; broker <= brokers; broker++)); do kafka_unit_ready "kafka-$broker"; done
}

# kafka_cluster_id: a new one; like Kafka's own it does not begin with a '-', which would read as an option.
kafka_cluster_id() {
  local id=-
  while [[ $id == -* ]]; do id=$(openssl rand 16 | base64 | tr '+/' '-_' | tr -d '='); done
  echo "$id"
}

# kafka_broker_configure BROKER BROKERS: writes its properties and formats its folder, once.
kafka_broker_configure() {
  local broker=$1 brokers=$2 dir=$KAFKA_DATA/kafka-$1 voters='' n replicas
  [[ ! -e $dir/server.properties ]] || return 0
  for ((n = 1; n <= brokers; n++)); do voters+="${voters:+,}$n@127.0.0.1:$(kafka_port "$n" 4)"; done
  replicas=$brokers
  local plaintext sasl sasl_ssl mutual controller
  plaintext=127.0.0.1:$(kafka_port "$broker" 0)
  sasl=127.0.0.1:$(kafka_port "$broker" 1)
  sasl_ssl=127.0.0.1:$(kafka_port "$broker" 2)
  mutual=127.0.0.1:$(kafka_port "$broker" 3)
  controller=127.0.0.1:$(kafka_port "$broker" 4)
  mkdir -p "$dir"
  {
    kafka_common_properties "$broker" "$voters" "$(kafka_log_dir "kafka-$broker")" "$replicas"
    cat <<CONF
listeners=PLAINTEXT://$plaintext,SASL://$sasl,SASLSSL://$sasl_ssl,MUTUAL://$mutual,CONTROLLER://$controller
advertised.listeners=PLAINTEXT://$plaintext,SASL://$sasl,SASLSSL://$sasl_ssl,MUTUAL://$mutual
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLSSL:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
ssl.keystore.type=PEM
ssl.keystore.location=$KAFKA_DATA/pki/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=$KAFKA_DATA/pki/ca.crt
listener.name.mutual.ssl.client.auth=required
CONF
    local listener mechanism
    for listener in sasl saslssl; do
      for mechanism in scram-sha-512 scram-sha-256; do
        echo "listener.name.$listener.$mechanism.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
      done
      echo "listener.name.$listener.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$KAFKA_USER=\"$KAFKA_PASSWORD\";"
    done
  } >"$dir/server.properties.new"
  kafka_format "$dir" "$KAFKA_DATA/cluster-id" --feature share.version=1 \
    --add-scram "SCRAM-SHA-512=[name=$KAFKA_USER,password=$KAFKA_PASSWORD]" \
    --add-scram "SCRAM-SHA-256=[name=$KAFKA_USER,password=$KAFKA_PASSWORD]"
}

# kafka_common_properties NODE VOTERS LOG_FOLDER REPLICAS: a killed broker may come back only when its session is over
# (9 s unless set), which is what fault tests would wait for.
kafka_common_properties() {
  cat <<CONF
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$2
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$3
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
log.segment.delete.delay.ms=1000
broker.heartbeat.interval.ms=500
offsets.topic.replication.factor=$4
transaction.state.log.replication.factor=$4
transaction.state.log.min.isr=$(($4 > 1 ? 2 : 1))
share.coordinator.state.topic.replication.factor=$4
share.coordinator.state.topic.min.isr=$(($4 > 1 ? 2 : 1))
offsets.topic.num.partitions=10
transaction.state.log.num.partitions=10
share.coordinator.state.topic.num.partitions=10
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
CONF
}

# kafka_format DIR CLUSTER_ID_FILE ARGUMENTS…: the folder counts as configured when the format has succeeded.
kafka_format() {
  local dir=$1 id
  id=$(<"$2")
  shift 2
  rm -rf "$(kafka_property "$dir/server.properties.new" log.dirs)"
  quiet "${KAFKA_JAVA[@]}" -cp "$(kafka_class_path)" -Dlog4j2.configurationFile="$BED_SOURCE/kafka/log4j2.properties" \
    kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties.new" "$@" ||
    die "could not format Kafka's folder $dir"
  mv "$dir/server.properties.new" "$dir/server.properties"
}

# kafka_property FILE KEY
kafka_property() { sed -n "s/^$2=//p" "$1"; }

# kafka_log_dir UNIT: where a new one keeps its data: in memory if there is room. Each partition is several files and
# as many fsyncs, and a test makes thousands of them.
kafka_log_dir() {
  if memory_has_room; then echo "$MEMORY/$1"; else echo "$KAFKA_DATA/$1/log"; fi
}

kafka_unit_ports() { kafka_property "$KAFKA_DATA/$1/server.properties" listeners | grep -oP '127\.0\.0\.1:\K[0-9]+'; }

# kafka_unit_start PART UNIT
kafka_unit_start() {
  local ports
  ! unit_runs "$2" || return 0
  mapfile -t ports < <(kafka_unit_ports "$2")
  unit_start "$1" "$2" "${ports[@]}" -- "${KAFKA_JAVA[@]}" -cp "$(kafka_class_path)" \
    -Dlog4j2.configurationFile="$BED_SOURCE/kafka/log4j2.properties" kafka.Kafka "$KAFKA_DATA/$2/server.properties"
}

# kafka_unit_ready UNIT: it answers, and knows as many live brokers as run beside it.
kafka_unit_ready() {
  local voters running
  voters=$(kafka_unit_voters "$1")
  running=$(unit_peers "$1")
  if ((running * 2 <= voters)); then
    say "$1" "started; $running of $voters controllers run, a majority must before it can serve"
    return 0
  fi
  unit_ready "$1" 90 kafka_unit_answers "$1"
}

kafka_unit_answers() { kafka_answers "$(kafka_unit_ports "$1" | head -n 1)" "$(unit_peers "$1")"; }

kafka_unit_voters() { kafka_property "$KAFKA_DATA/$1/server.properties" controller.quorum.voters | tr ',' '\n' | wc -l; }

# kafka_answers PORT BROKERS: sends Metadata (version 1, no topics) and reads the number of live brokers.
kafka_answers() {
  local answer
  # shellcheck disable=SC2016
  answer=$(timeout 3 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf "\0\0\0\x11\0\x03\0\x01\0\0\0\x01\0\x03bed\0\0\0\0" >&3
    head -c 12 <&3 | od -An -v -tu1 -j8' answers "$1" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- "$2" $answer
  (($# == 5 && $5 >= $1))
}

# kafka_extra NAME PORT [--nodes 3]: a further Kafka of its own, PLAINTEXT only; its controller listens on PORT + 1. Of
# three brokers each listens two ports after the one before it. With KAFKA_SASL_PORT a single one has a SCRAM listener
# there, too, whose users may do nothing but what an ACL allows.
kafka_extra() {
  local name port nodes units=() n servers=() id
  extra_arguments extra-kafka "$@"
  need_root
  lock_part 60 "kafka-$name"
  packages_ready kafka
  kafka_install
  extra_units "kafka-$name" "$nodes"
  id=$KAFKA_DATA/${units[0]}/cluster-id
  for ((n = 1; n <= nodes; n++)); do
    servers+=("127.0.0.1:$((port + 2 * (n - 1)))")
    kafka_extra_configure "${units[n - 1]}" "$n" "$nodes" "$port" "$id"
  done
  for n in "${units[@]}"; do kafka_unit_start "kafka-$name" "$n"; done
  for n in "${units[@]}"; do kafka_unit_ready "$n"; done
  say "kafka-$name" "ready: $(paste -sd, <<<"$(printf '%s\n' "${servers[@]}")"), cluster $(<"$id")"
}

# kafka_extra_configure UNIT NODE NODES PORT CLUSTER_ID_FILE: writes its properties and formats its folder, once.
kafka_extra_configure() {
  local unit=$1 node=$2 nodes=$3 first=$4 id=$5 dir=$KAFKA_DATA/$1 port=$(($4 + 2 * ($2 - 1))) voters='' n
  if [[ -e $dir/server.properties ]]; then
    [[ $(kafka_unit_ports "$unit" | head -n 1) == "$port" && $(kafka_unit_voters "$unit") == "$nodes" ]] ||
      die "$unit already exists on port $(kafka_unit_ports "$unit" | head -n 1), one of $(kafka_unit_voters "$unit"): choose another name"
    return
  fi
  mkdir -p "$dir"
  [[ -e $id ]] || kafka_cluster_id | write_file "$id"
  for ((n = 1; n <= nodes; n++)); do voters+="${voters:+,}$n@127.0.0.1:$((first + 2 * (n - 1) + 1))"; done
  local sasl=${KAFKA_SASL_PORT:+,SASL://127.0.0.1:$KAFKA_SASL_PORT}
  {
    kafka_common_properties "$node" "$voters" "$(kafka_log_dir "$unit")" "$nodes"
    cat <<CONF
listeners=PLAINTEXT://127.0.0.1:$port$sasl,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port$sasl
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
CONF
    [[ -z $sasl ]] || cat <<CONF
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
allow.everyone.if.no.acl.found=false
CONF
  } >"$dir/server.properties.new"
  kafka_format "$dir" "$id"
}
