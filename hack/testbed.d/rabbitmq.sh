# shellcheck shell=bash
# RabbitMQ, run by chroot from a Debian folder that has a fitting Erlang. It has a mount namespace of its own, so its
# mounts end with it, and the shared Debian folder stays as it was made: data and configuration are laid over it.

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

rabbitmq_part_up() {
  trixie_install rabbitmq
  rabbitmq_configure
  rabbitmq_unit_start
  rabbitmq_unit_ready
}

rabbitmq_configure() {
  local etc=$RABBITMQ_DATA/etc user
  [[ ! -e $RABBITMQ_DATA/configured ]] || return 0
  mkdir -p "$etc" "$RABBITMQ_DATA/lib" "$RABBITMQ_DATA/log"
  cat >"$etc/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$PORT_RABBITMQ_AMQP
management.tcp.ip = 127.0.0.1
management.tcp.port = $PORT_RABBITMQ_MANAGEMENT
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $PORT_RABBITMQ_PROMETHEUS
default_user = $RABBITMQ_USER
default_pass = $RABBITMQ_PASSWORD
log.console = true
log.file = false
CONF
  echo '[rabbitmq_management,rabbitmq_prometheus,rabbitmq_shovel,rabbitmq_shovel_management].' >"$etc/enabled_plugins"
  openssl rand -hex 20 >"$RABBITMQ_DATA/lib/.erlang.cookie"
  chmod 400 "$RABBITMQ_DATA/lib/.erlang.cookie"
  user=$(awk -F: '$1 == "rabbitmq" { print $3 ":" $4 }' "$(trixie_artefact)/etc/passwd")
  chown -R "$user" "$RABBITMQ_DATA"
  touch "$RABBITMQ_DATA/configured"
}

# What the server and its command line tools need to find each other.
rabbitmq_environment() {
  cat <<ENV
PATH=/usr/sbin:/usr/bin:/sbin:/bin
HOME=/var/lib/rabbitmq
LANG=C.UTF-8
RABBITMQ_NODENAME=rabbit@localhost
RABBITMQ_DIST_PORT=$PORT_RABBITMQ_DISTRIBUTION
ERL_EPMD_PORT=$PORT_RABBITMQ_EPMD
ERL_EPMD_ADDRESS=127.0.0.1
RUNNING_UNDER_SYSTEMD=1
ENV
}

rabbitmq_unit_start() {
  local environment root
  ! unit_runs rabbitmq || return 0
  root=$(trixie_artefact)
  mapfile -t environment < <(rabbitmq_environment)
  # RUNNING_UNDER_SYSTEMD makes the start script become the Erlang process, instead of watching it.
  # shellcheck disable=SC2016
  unit_start rabbitmq rabbitmq "$PORT_RABBITMQ_AMQP" "$PORT_RABBITMQ_MANAGEMENT" "$PORT_RABBITMQ_PROMETHEUS" \
    "$PORT_RABBITMQ_DISTRIBUTION" "$PORT_RABBITMQ_EPMD" -- \
    unshare --mount --propagation private bash -c '
      set -euo pipefail
      mount --bind /proc "$1/proc"
      mount --bind /dev "$1/dev"
      mount --bind "$2/lib" "$1/var/lib/rabbitmq"
      mount --bind "$2/log" "$1/var/log/rabbitmq"
      mount --bind "$2/etc" "$1/etc/rabbitmq"
      exec chroot --userspec=rabbitmq:rabbitmq "$1" /usr/bin/env -i "${@:3}" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        /usr/lib/rabbitmq/bin/rabbitmq-server' rabbitmq "$root" "$RABBITMQ_DATA" "${environment[@]}"
}

rabbitmq_unit_ready() { unit_ready rabbitmq 60 rabbitmq_answers; }

# rabbitmq_answers: the management API, and the AMQP listener, which opens later: it greets with a method frame (1).
rabbitmq_answers() {
  [[ $(http_code "http://127.0.0.1:$PORT_RABBITMQ_MANAGEMENT/api/vhosts/%2F" -u "$RABBITMQ_USER:$RABBITMQ_PASSWORD") == 200 ]] &&
    [[ $(rabbitmq_greeting) == 1 ]]
}

rabbitmq_greeting() {
  # shellcheck disable=SC2016
  timeout 3 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf "AMQP\0\0\x09\x01" >&3
    head -c 1 <&3 | od -An -tu1 | tr -d " "' greeting "$PORT_RABBITMQ_AMQP" 2>/dev/null
}
