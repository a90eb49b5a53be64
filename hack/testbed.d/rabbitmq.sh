# shellcheck shell=bash
# RabbitMQ, run by chroot from a Debian folder that has a fitting Erlang. It has a mount namespace of its own, so its
# mounts end with it, and the shared Debian folder stays as it was made: data and configuration are laid over it.
# Unit `rabbitmq` is the bed's own node. `extra-rabbitmq` makes further ones, alone or as a cluster of three.

RABBITMQ_DATA=$RUN/data/rabbitmq
RABBITMQ_USER=guest
RABBITMQ_PASSWORD=guest

# The Debian folder: RabbitMQ with Erlang, and etcd for Kubernetes.
trixie_artefact() { echo "$ARTEFACTS/debian-$DEBIAN_SUITE-$(digest - <<<"$DEBIAN_PACKAGES")"; }
trixie_install() { artefact "$1" "$(basename "$(trixie_artefact)")" trixie; }

rabbitmq_version() {
  local dirs=("$(trixie_artefact)"/usr/lib/rabbitmq/lib/rabbitmq_server-*)
  echo "${dirs[0]##*-}"
}

# rabbitmq_load UNIT: its R_… variables. A node of an extra cluster keeps them in its folder.
rabbitmq_load() {
  if [[ $1 != rabbitmq ]]; then
    R_DATA=$RABBITMQ_DATA/$1
    # shellcheck source=/dev/null
    source "$R_DATA/node"
    return
  fi
  R_DATA=$RABBITMQ_DATA
  R_NODE=rabbit@localhost
  R_NODES=1
  R_MANAGEMENT=$PORT_RABBITMQ_MANAGEMENT
  R_AMQP=$PORT_RABBITMQ_AMQP
  R_DISTRIBUTION=$PORT_RABBITMQ_DISTRIBUTION
  R_EPMD=$PORT_RABBITMQ_EPMD
  R_MORE=("$PORT_RABBITMQ_PROMETHEUS" "$PORT_RABBITMQ_EPMD" "$PORT_RABBITMQ_MANAGEMENT_TLS" "$PORT_RABBITMQ_AMQPS")
}

rabbitmq_part_up() {
  trixie_install rabbitmq
  [[ -e $RABBITMQ_DATA/configured ]] || rabbitmq_configure
  rabbitmq_unit_start rabbitmq rabbitmq
  rabbitmq_unit_ready rabbitmq
}

# rabbitmq_configure: the bed's own node: every listener, TLS with client certificates that are welcome, not required.
rabbitmq_configure() {
  local pki=$RABBITMQ_DATA/pki etc=$RABBITMQ_DATA/etc listener
  ca_ready "$pki" "Spillway test bed RabbitMQ"
  leaf_ready "$pki" broker /CN=localhost IP:127.0.0.1,DNS:localhost
  leaf_ready "$pki" client "/CN=$RABBITMQ_USER" ""
  mkdir -p "$etc/tls"
  cp "$pki/ca.crt" "$pki/broker.crt" "$pki/broker.key" "$etc/tls"
  {
    cat <<CONF
management.ssl.ip = 127.0.0.1
management.ssl.port = $PORT_RABBITMQ_MANAGEMENT_TLS
listeners.ssl.1 = 127.0.0.1:$PORT_RABBITMQ_AMQPS
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $PORT_RABBITMQ_PROMETHEUS
CONF
    for listener in ssl_options management.ssl; do
      cat <<CONF
$listener.cacertfile = /etc/rabbitmq/tls/ca.crt
$listener.certfile = /etc/rabbitmq/tls/broker.crt
$listener.keyfile = /etc/rabbitmq/tls/broker.key
$listener.verify = verify_peer
$listener.fail_if_no_peer_cert = false
CONF
    done
  } >"$etc/more"
  rabbitmq_node_configure rabbitmq "$(openssl rand -hex 20)" \
    rabbitmq_management rabbitmq_prometheus rabbitmq_shovel rabbitmq_shovel_management
}

# rabbitmq_node_configure UNIT COOKIE PLUGIN…: what every node has, and after it the lines of its file etc/more.
rabbitmq_node_configure() {
  local unit=$1 cookie=$2 etc user
  shift 2
  rabbitmq_load "$unit"
  etc=$R_DATA/etc
  mkdir -p "$etc" "$R_DATA/lib" "$R_DATA/log"
  {
    cat <<CONF
listeners.tcp.1 = 127.0.0.1:$R_AMQP
management.tcp.ip = 127.0.0.1
management.tcp.port = $R_MANAGEMENT
default_user = $RABBITMQ_USER
default_pass = $RABBITMQ_PASSWORD
log.console = true
log.file = false
CONF
    cat "$etc/more"
  } >"$etc/rabbitmq.conf"
  rm "$etc/more"
  (
    IFS=,
    echo "[$*]."
  ) >"$etc/enabled_plugins"
  echo "$cookie" >"$R_DATA/lib/.erlang.cookie"
  chmod 400 "$R_DATA/lib/.erlang.cookie"
  user=$(awk -F: '$1 == "rabbitmq" { print $3 ":" $4 }' "$(trixie_artefact)/etc/passwd")
  chown -R "$user" "$etc" "$R_DATA/lib" "$R_DATA/log"
  touch "$R_DATA/configured"
}

# rabbitmq_environment UNIT: what the server and its command line tools need to find each other.
rabbitmq_environment() {
  rabbitmq_load "$1"
  cat <<ENV
PATH=/usr/sbin:/usr/bin:/sbin:/bin
HOME=/var/lib/rabbitmq
LANG=C.UTF-8
RABBITMQ_NODENAME=$R_NODE
RABBITMQ_DIST_PORT=$R_DISTRIBUTION
ERL_EPMD_PORT=$R_EPMD
ERL_EPMD_ADDRESS=127.0.0.1
RUNNING_UNDER_SYSTEMD=1
ENV
}

# rabbitmq_unit_start PART UNIT
rabbitmq_unit_start() {
  local environment root
  ! unit_runs "$2" || return 0
  root=$(trixie_artefact)
  rabbitmq_load "$2"
  mapfile -t environment < <(rabbitmq_environment "$2")
  # RUNNING_UNDER_SYSTEMD makes the start script become the Erlang process, instead of watching it.
  # shellcheck disable=SC2016
  unit_start "$1" "$2" "$R_AMQP" "$R_MANAGEMENT" "$R_DISTRIBUTION" "${R_MORE[@]}" -- \
    unshare --mount --propagation private bash -c '
      set -euo pipefail
      mount --bind /proc "$1/proc"
      mount --bind /dev "$1/dev"
      mount --bind "$2/lib" "$1/var/lib/rabbitmq"
      mount --bind "$2/log" "$1/var/log/rabbitmq"
      mount --bind "$2/etc" "$1/etc/rabbitmq"
      exec chroot --userspec=rabbitmq:rabbitmq "$1" /usr/bin/env -i "${@:3}" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        /usr/lib/rabbitmq/bin/rabbitmq-server' rabbitmq "$root" "$R_DATA" "${environment[@]}"
}

# rabbitmq_unit_ready UNIT: it answers, and knows as many running nodes as run beside it.
rabbitmq_unit_ready() {
  local running
  rabbitmq_load "$1"
  running=$(unit_peers "$1")
  if ((running * 2 <= R_NODES)); then
    say "$1" "started; $running of $R_NODES nodes run, a majority must before it can serve"
    return 0
  fi
  unit_ready "$1" 90 rabbitmq_answers "$1"
}

# rabbitmq_answers UNIT: the management API, and the AMQP listener, which opens later: it greets with a method frame (1).
rabbitmq_answers() {
  rabbitmq_load "$1"
  [[ $(http_code "http://127.0.0.1:$R_MANAGEMENT/api/vhosts/%2F" -u "$RABBITMQ_USER:$RABBITMQ_PASSWORD") == 200 ]] &&
    [[ $(rabbitmq_greeting "$R_AMQP") == 1 ]] &&
    (($(rabbitmq_running "$R_MANAGEMENT") >= $(unit_peers "$1")))
}

rabbitmq_running() {
  curl -s -m 5 --noproxy '*' -u "$RABBITMQ_USER:$RABBITMQ_PASSWORD" "http://127.0.0.1:$1/api/nodes" |
    jq '[.[] | select(.running)] | length' 2>/dev/null || echo 0
}

rabbitmq_greeting() {
  # shellcheck disable=SC2016
  timeout 3 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf "AMQP\0\0\x09\x01" >&3
    head -c 1 <&3 | od -An -tu1 | tr -d " "' greeting "$1" 2>/dev/null
}

# rabbitmq_extra NAME PORT [--nodes 3]: a further RabbitMQ of its own with management on PORT and AMQP on PORT + 1, or
# three nodes in a cluster, each ten ports after the one before it.
rabbitmq_extra() {
  local name port nodes units=() n
  extra_arguments extra-rabbitmq "$@"
  need_root
  lock_part 60 "rabbitmq-$name"
  packages_ready rabbitmq
  trixie_install "rabbitmq-$name"
  extra_units "rabbitmq-$name" "$nodes"
  if [[ ! -e $RABBITMQ_DATA/${units[-1]}/configured ]]; then
    rabbitmq_extra_configure "$port" "${units[@]}"
  fi
  rabbitmq_load "${units[0]}"
  ((R_MANAGEMENT == port && R_NODES == nodes)) ||
    die "rabbitmq-$name already exists with $R_NODES node(s) on port $R_MANAGEMENT: choose another name"
  for n in "${units[@]}"; do
    rabbitmq_unit_start "rabbitmq-$name" "$n"
    tool_rabbitmqctl "$n"
  done
  for n in "${units[@]}"; do
    # A node that asks another one which is about to start, or to end, ends itself ("node_not_running").
    (rabbitmq_unit_ready "$n") 2>/dev/null || {
      rabbitmq_unit_start "rabbitmq-$name" "$n"
      rabbitmq_unit_ready "$n"
    }
  done
  for n in "${units[@]}"; do
    rabbitmq_load "$n"
    say "$n" "ready: http://$RABBITMQ_USER:$RABBITMQ_PASSWORD@127.0.0.1:$R_MANAGEMENT, AMQP on $R_AMQP"
  done
}

# rabbitmq_extra_configure PORT UNIT…
rabbitmq_extra_configure() {
  local port=$1 cookie n node base
  shift
  cookie=$(openssl rand -hex 20)
  for ((n = 1; n <= $#; n++)); do
    base=$((port + 10 * (n - 1)))
    mkdir -p "$RABBITMQ_DATA/${!n}/etc"
    # One port mapper for all: the first node that runs brings it up.
    cat >"$RABBITMQ_DATA/${!n}/node" <<NODE
R_NODE=rabbit$n@localhost
R_NODES=$#
R_MANAGEMENT=$base
R_AMQP=$((base + 1))
R_DISTRIBUTION=$((base + 2))
R_EPMD=$((port + 3))
R_MORE=()
NODE
    {
      echo "cluster_formation.peer_discovery_backend = classic_config"
      for ((node = 1; node <= $#; node++)); do
        echo "cluster_formation.classic_config.nodes.$node = rabbit$node@localhost"
      done
    } >"$RABBITMQ_DATA/${!n}/etc/more"
    rabbitmq_node_configure "${!n}" "$cookie" rabbitmq_management
  done
}
