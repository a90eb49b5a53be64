# shellcheck shell=bash
# status, env, logs: what only reads. They need no lock.

rabbitmq_url() { echo "http://$RABBITMQ_USER:$RABBITMQ_PASSWORD@127.0.0.1:$PORT_RABBITMQ_MANAGEMENT"; }
rabbitmq_tls() { echo "https://127.0.0.1:$PORT_RABBITMQ_MANAGEMENT_TLS"; }
rabbitmq_amqps() { echo "amqps://127.0.0.1:$PORT_RABBITMQ_AMQPS"; }
rabbitmq_amqp() { echo "amqp://$RABBITMQ_USER:$RABBITMQ_PASSWORD@127.0.0.1:$PORT_RABBITMQ_AMQP/%2f"; }

export_line() { printf 'export %s=%q\n' "$1" "$2"; }

# bed_env: one export line each, for the parts that are up, and for those that the caller gave.
bed_env() {
  local variable
  if variable=$(given kubernetes); then
    export_line KUBECONFIG "$KUBECONFIG"
  elif [[ -e $RUN/up-kubernetes ]]; then
    export_line KUBECONFIG "$ADMIN_KUBECONFIG"
    export_line SPILLWAY_TEST_AUDIT_LOG "$AUDIT_LOG"
    export_line SPILLWAY_TEST_LOAD_IMAGE "$RUN/bin/load-image"
    export_line SPILLWAY_TEST_HOST_NETWORK 1
  fi
  if variable=$(given kafka); then
    export_line SPILLWAY_TEST_KAFKA "$SPILLWAY_TEST_KAFKA"
  elif [[ -e $RUN/up-kafka ]]; then
    export_line SPILLWAY_TEST_KAFKA "$(kafka_bootstrap 0)"
    export_line SPILLWAY_TEST_KAFKA_SASL "$(kafka_bootstrap 1)"
    export_line SPILLWAY_TEST_KAFKA_SASL_SSL "$(kafka_bootstrap 2)"
    export_line SPILLWAY_TEST_KAFKA_SSL "$(kafka_bootstrap 3)"
    export_line SPILLWAY_TEST_KAFKA_USER "$KAFKA_USER"
    export_line SPILLWAY_TEST_KAFKA_PASSWORD "$KAFKA_PASSWORD"
    export_line SPILLWAY_TEST_KAFKA_CA "$KAFKA_DATA/pki/ca.crt"
    export_line SPILLWAY_TEST_KAFKA_CERT "$KAFKA_DATA/pki/client.crt"
    export_line SPILLWAY_TEST_KAFKA_KEY "$KAFKA_DATA/pki/client.key"
  fi
  if variable=$(given rabbitmq); then
    export_line SPILLWAY_TEST_RABBITMQ "$SPILLWAY_TEST_RABBITMQ"
  elif [[ -e $RUN/up-rabbitmq ]]; then
    export_line SPILLWAY_TEST_RABBITMQ "$(rabbitmq_url)"
    export_line SPILLWAY_TEST_AMQP "$(rabbitmq_amqp)"
    if [[ -e $RABBITMQ_DATA/pki/client.crt ]]; then
      export_line SPILLWAY_TEST_RABBITMQ_TLS "$(rabbitmq_tls)"
      export_line SPILLWAY_TEST_AMQPS "$(rabbitmq_amqps)"
      export_line SPILLWAY_TEST_RABBITMQ_CA "$RABBITMQ_DATA/pki/ca.crt"
      export_line SPILLWAY_TEST_RABBITMQ_CERT "$RABBITMQ_DATA/pki/client.crt"
      export_line SPILLWAY_TEST_RABBITMQ_KEY "$RABBITMQ_DATA/pki/client.key"
    fi
  fi
  [[ ! -d $(prometheus_artefact) ]] || export_line SPILLWAY_TEST_PROMETHEUS_CRDS "$(prometheus_artefact)/crds"
  # Left as a variable in the line, so that it joins whatever PATH its reader has.
  # shellcheck disable=SC2016
  printf 'export PATH=%q:"$PATH"\n' "$(tools_path)"
}

bed_status() {
  local unit part pid
  {
    echo "PART UNIT STATE PID PORT VERSION DATA"
    for part in "${ALL_PARTS[@]}" $(extra_parts); do
      local units=() variable
      mapfile -t units < <(units_of "$part")
      if variable=$(given "$part"); then
        echo "$part - given - - - \$$variable"
      elif [[ ${#units[@]} -eq 0 ]]; then
        echo "$part - down - - - -"
      fi
      for unit in "${units[@]}"; do
        pid=$(unit_pid "$unit") || pid=-
        echo "$part $unit $(unit_state "$unit") $pid $(unit_port "$unit") $(unit_version "$unit") $(unit_data "$unit")"
      done
    done
  } | column -t
}

extra_parts() {
  local dir part
  for dir in "$RUN"/units/{kafka,rabbitmq}-*; do
    part=$(cat "$dir/part" 2>/dev/null) || continue
    [[ $part == kafka ]] || echo "$part"
  done | sort -u
}

unit_state() {
  if unit_runs "$1"; then
    if unit_answers "$1"; then echo ready; else echo no-answer; fi
  elif [[ -e $RUN/units/$1/stopped ]]; then
    echo stopped
  else
    echo dead
  fi
}

unit_answers() {
  case $1 in
    etcd) etcd_healthy ;;
    kube-apiserver) apiserver_ready 2>/dev/null ;;
    kube-controller-manager) healthz_ok "$PORT_KUBE_CONTROLLER_MANAGER" ;;
    kube-scheduler) healthz_ok "$PORT_KUBE_SCHEDULER" ;;
    containerd) containerd_answers ;;
    kubelet) node_ready 2>/dev/null ;;
    rabbitmq | rabbitmq-*) rabbitmq_answers "$1" ;;
    *) kafka_unit_answers "$1" ;;
  esac
}

unit_port() {
  case $1 in
    etcd) echo "$PORT_ETCD_CLIENT" ;;
    kube-apiserver) echo "$PORT_KUBE_APISERVER" ;;
    kube-controller-manager) echo "$PORT_KUBE_CONTROLLER_MANAGER" ;;
    kube-scheduler) echo "$PORT_KUBE_SCHEDULER" ;;
    kubelet) echo "$PORT_KUBELET" ;;
    rabbitmq | rabbitmq-*) rabbitmq_load "$1" && echo "$R_AMQP,$R_MANAGEMENT" ;;
    kafka-*) kafka_unit_ports "$1" | head -n -1 | paste -sd, ;;
    *) echo - ;;
  esac
}

unit_version() {
  case $1 in
    etcd) "$(trixie_artefact)/usr/bin/etcd" --version | awk 'NR == 1 { print $3 }' ;;
    containerd) "$(containerd_artefact)/usr/bin/containerd" --version | awk '{ print $3 }' ;;
    rabbitmq | rabbitmq-*) rabbitmq_version ;;
    kafka-*) echo "$KAFKA_VERSION" ;;
    *) echo "$K8S_VERSION" ;;
  esac
}

unit_data() {
  case $1 in
    etcd) echo "$K8S_DATA/etcd" ;;
    containerd) echo "$K8S_DATA/node/containerd" ;;
    kubelet) echo "$K8S_DATA/node/kubelet" ;;
    kube-apiserver) echo "$AUDIT_LOG" ;;
    rabbitmq | rabbitmq-*) rabbitmq_load "$1" && echo "$R_DATA/lib" ;;
    kafka-*) kafka_property "$KAFKA_DATA/$1/server.properties" log.dirs ;;
    *) echo - ;;
  esac
}

# bed_logs PART [-f]: PART is a part, or one of its processes.
bed_logs() {
  local unit units=() files=()
  [[ $# -eq 1 || ($# -eq 2 && $2 == -f) ]] || die "usage: logs PART [-f]"
  if unit_known "$1"; then
    units=("$1")
  else
    mapfile -t units < <(units_of "$1")
  fi
  [[ ${#units[@]} -gt 0 ]] || die "there is no '$1' in this bed: hack/testbed status shows what there is"
  for unit in "${units[@]}"; do files+=("$RUN/units/$unit/log"); done
  tail -n 100 ${2:+-F} "${files[@]}"
}
