# shellcheck shell=bash disable=SC2154 # chart, tests, scratch, K8S_VERSION: hack/test-chart
# What the chart renders and what it refuses.

render() { helm template spillway "$chart" --namespace "$namespace" --kube-version "$K8S_VERSION" "$@"; }

lint_is_clean() {
  local file
  for file in "$tests"/values/*.yaml; do helm lint "$chart" --strict --quiet --values "$file"; done
}

# refused FILE: rendering fails, in the words of its first line.
refused() {
  local words
  words=$(sed -n '1s/^# //p' "$1")
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
  render --show-only templates/prometheusrule.yaml --values "$tests/values/everything.yaml" |
    sed -n '/^  groups:/,$p' | sed 's/^  //' >"$scratch/rules.yaml"
  promtool check rules "$scratch/rules.yaml"
  grep -F 'runbook_url: https://runbooks.example/spillway/broker-down.md' "$scratch/rules.yaml"
  if grep SpillwayPartitionBound "$scratch/rules.yaml"; then return 1; fi
}
