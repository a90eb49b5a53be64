# shellcheck shell=bash
# Tools that tests and people call: kubectl (when the machine has none), helm, prometheus, promtool, buildah, and small commands of
# the bed itself in $RUN/bin. All of them come first in the PATH that `env` prints.

kubectl_artefact() { echo "$ARTEFACTS/kubectl-$K8S_VERSION-$(digest "$BED_SOURCE"/kubernetes/go.{mod,sum})"; }
helm_artefact() { echo "$ARTEFACTS/helm-$HELM_VERSION-$(digest "$BED_SOURCE"/helm/go.{mod,sum})"; }
# prometheus, promtool, and in crds/ what the Prometheus operator's monitors and rules must look like.
prometheus_artefact() { echo "$ARTEFACTS/prometheus-server-$(digest "$BED_SOURCE"/prometheus/go.{mod,sum})"; }

# buildah comes as a package: packages_ready has seen to it.
tools_part_up() {
  go_ready
  command -v kubectl >/dev/null || artefact tools "$(basename "$(kubectl_artefact)")" kubectl
  artefact tools "$(basename "$(helm_artefact)")" helm
  artefact tools "$(basename "$(prometheus_artefact)")" prometheus
}

# tools_path: the folders, joined by colons.
tools_path() {
  local folder path=$RUN/bin
  for folder in "$(kubectl_artefact)" "$(helm_artefact)" "$(prometheus_artefact)"; do
    [[ ! -d $folder ]] || path+=:$folder
  done
  echo "$path"
}

# tools_link PART: the part's own commands.
tools_link() {
  mkdir -p "$RUN/bin"
  case $1 in
    kubernetes)
      tool_write load-image "$(printf 'exec env SPILLWAY_TESTBED_DIR=%q SPILLWAY_TESTBED_RUN=%q %q load-image' "$BED_DIR" "$RUN" "$BED_SELF")"
      tool_write ctr "$(printf 'exec %q --address %q --namespace k8s.io' "$(containerd_artefact)/usr/bin/ctr" "$CONTAINERD_SOCKET")"
      ;;
    kafka)
      kafka_tool kafka-topics org.apache.kafka.tools.TopicCommand
      kafka_tool kafka-configs kafka.admin.ConfigCommand
      kafka_tool kafka-leader-election org.apache.kafka.tools.LeaderElectionCommand
      kafka_tool kafka-acls org.apache.kafka.tools.AclCommand
      kafka_tool kafka-consumer-groups org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
      kafka_tool kafka-console-producer org.apache.kafka.tools.ConsoleProducer
      kafka_tool kafka-console-consumer org.apache.kafka.tools.consumer.ConsoleConsumer
      ;;
    rabbitmq)
      tool_rabbitmqctl rabbitmq
      ;;
  esac
}

# tool_rabbitmqctl UNIT: rabbitmqctl for the bed's own node, rabbitmqctl-NAME for a further one.
tool_rabbitmqctl() {
  local environment
  mkdir -p "$RUN/bin"
  environment=$(rabbitmq_environment "$1" | grep -v SYSTEMD | tr '\n' ' ')
  # In the server's own mount namespace, where its cookie is.
  # shellcheck disable=SC2016
  tool_write "rabbitmqctl${1#rabbitmq}" "$(printf 'exec nsenter --mount --target "$(cut -d" " -f1 %q)" chroot --userspec=rabbitmq:rabbitmq %q /usr/bin/env -i %s/usr/lib/rabbitmq/bin/rabbitmqctl' \
    "$RUN/units/$1/pid" "$(trixie_artefact)" "$environment")"
}

# tool_write NAME LINE
tool_write() {
  printf '#!/bin/sh\n%s "$@"\n' "$2" >"$RUN/bin/$1.new"
  chmod +x "$RUN/bin/$1.new"
  mv "$RUN/bin/$1.new" "$RUN/bin/$1"
}

kafka_tool() {
  tool_write "$1" "$(printf "exec java -XX:TieredStopAtLevel=1 -Dlog4j2.level=WARN -cp %q %s" "$(kafka_artefact)/libs/*" "$2")"
}
