# shellcheck shell=bash disable=SC2154 # chart, tests, scratch, K8S_VERSION: hack/test-chart
# What the chart renders and what it refuses.

render() { helm template "${release:-spillway}" "$chart" --namespace "$namespace" --kube-version "$K8S_VERSION" "$@"; }

lint_is_clean() {
  local file
  for file in "$tests"/values/*.yaml; do helm lint "$chart" --strict --quiet --values "$file"; done
}

# refused FILE: rendering fails, in the words of its first line. The second line may name the release.
refused() {
  local words release
  words=$(sed -n '1s/^# //p' "$1")
  # shellcheck disable=SC2034 # render reads it
  release=$(sed -n '2s/^# release //p' "$1")
  if render --values "$1" >"$scratch/rendered" 2>"$scratch/errors"; then
    echo "was not refused"
    return 1
  fi
  grep -F -- "$words" "$scratch/errors" || { cat "$scratch/errors"; return 1; }
}

# accepted FILE: strict validation and admission by the API server; nothing is stored.
accepted() {
  namespaces_ready
  monitors_ready
  render --values "$1" >"$scratch/rendered"
  # What another test has installed by hand is taken over, as far as a dry run goes.
  kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server -f "$scratch/rendered" >"$scratch/taken"
  printf 'note: %d objects\n' "$(wc -l <"$scratch/taken")"
}

# What goes into the pods arrives there, and names follow.
options_arrive() {
  render --values "$tests/values/everything.yaml" --show-only templates/deployment.yaml --show-only templates/poddisruptionbudget.yaml |
    kubectl create --dry-run=client -o json -f - | jq -s 'map(if .kind == "List" then .items[] else . end)' >"$scratch/options"
  local fact
  while read -r fact; do
    jq -e "(.[] | select(.kind == \"Deployment\")) as \$d | \$d.spec.template.spec as \$p | \$p.containers[0] as \$c |
      (.[] | select(.kind == \"PodDisruptionBudget\")).spec as \$b | $fact" "$scratch/options" >/dev/null || { echo "not so: $fact"; return 1; }
  done <<'FACTS'
$d.metadata.annotations["example.org/owner"] == "platform"
$d.spec.revisionHistoryLimit == 5 and $d.spec.strategy.rollingUpdate.maxSurge == 0
$d.spec.selector.matchLabels["app.kubernetes.io/name"] == "topology-operator"
$d.spec.template.metadata.labels["app.kubernetes.io/name"] == "topology-operator" and $b.selector == $d.spec.selector
$b.minAvailable == "50%" and ($b | has("maxUnavailable") | not)
$c.args == ["run", "--newer-than-this-chart", "7"]
$c.image | startswith("mirror.example:5000/proxy/spillway@sha256:")
$d.metadata.labels["app.kubernetes.io/version"] == "1.2.3"
$p.hostUsers == false
$b.unhealthyPodEvictionPolicy == "IfHealthyBudget"
$p.volumes[0].configMap.name == "ca" and $c.volumeMounts[0].mountPath == "/etc/ca"
$p.hostAliases[0].hostnames == ["kafka-0.example"] and $p.dnsPolicy == "None" and $p.dnsConfig.nameservers == ["10.96.0.10"]
$c.livenessProbe.failureThreshold == 5 and $c.livenessProbe.initialDelaySeconds == 5 and $c.livenessProbe.httpGet.path == "/healthz"
$c.readinessProbe.periodSeconds == 3 and $c.readinessProbe.timeoutSeconds == 5 and $c.readinessProbe.httpGet.path == "/readyz"
$c.securityContext.readOnlyRootFilesystem and $c.securityContext.seccompProfile.type == "RuntimeDefault"
$p.securityContext.fsGroup == 65532 and $p.securityContext.runAsNonRoot
FACTS
}

# What kubectl alone installs. Its namespace is not made in a dry run, so another one stands in for it.
manifest_accepted() {
  namespaces_ready
  sed "s/\bspillway-system\b/$namespace-restricted/" manifests/install.yaml >"$scratch/rendered"
  kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server -f "$scratch/rendered"
}

pod() {
  render --show-only templates/deployment.yaml | kubectl create --dry-run=client -o json -f - |
    jq '{apiVersion: "v1", kind: "Pod", metadata: {name: "probe"}, spec: (.spec.template.spec | .serviceAccountName = "default")}' |
    jq "$1"
}

pods_are_restricted() {
  namespaces_ready
  pod . | kubectl -n "$namespace-restricted" create --dry-run=server -f -
  # The standard is enforced: what breaks it is refused.
  if pod '.spec.hostNetwork = true' | kubectl -n "$namespace-restricted" create --dry-run=server -f - 2>"$scratch/errors"; then
    echo "host network was not refused"
    return 1
  fi
  grep 'violates PodSecurity "restricted' "$scratch/errors"
}

alerts_are_right() {
  promtool check rules "$chart/files/alerts.yaml"
  promtool test rules "$tests/alerts.yaml"
  # The rules as the chart renders them are rules, too.
  rules_rendered --values "$tests/values/everything.yaml"
  promtool check rules "$scratch/rules.yaml"
  grep -F 'runbook_url: https://runbooks.example/spillway/broker-down.html' "$scratch/rules.yaml"
  grep -F 'spillway_object_ready{cluster="a",kind!="Broker"}' "$scratch/rules.yaml"
  if grep SpillwayPartitionBound "$scratch/rules.yaml"; then return 1; fi
  # And ask for their own release; without an address of runbooks they name none.
  rules_rendered --set metrics.rules.enabled=true,metrics.monitor.enabled=true
  cp "$tests/alerts-releases.yaml" "$scratch/alerts-releases.yaml"
  promtool test rules "$scratch/alerts-releases.yaml"
  if grep runbook_url "$scratch/rules.yaml"; then return 1; fi
  # The chart's PodMonitor gives another job.
  rules_rendered --set metrics.rules.enabled=true,metrics.monitor.enabled=true,metrics.monitor.kind=PodMonitor
  grep -F "job=\"$namespace/spillway\"" "$scratch/rules.yaml"
  # Who scrapes in another way has labels that the chart cannot know.
  rules_rendered --set metrics.rules.enabled=true
  grep -F 'absent(spillway_leader == 1)' "$scratch/rules.yaml"
}

rules_rendered() {
  render --show-only templates/prometheusrule.yaml "$@" | sed -n '/^  groups:/,$p' | sed 's/^  //' >"$scratch/rules.yaml"
}
