# shellcheck shell=bash disable=SC2154,SC2034 # hack/test-chart reads and sets the rest
# An installation on a real cluster: what has to be there, the objects, and what is left when it goes.

namespace=spillway-chart-test # the audit log of the test bed has its service accounts' reads
prefix=spillway-chart-test
crds=(brokers topics exchanges queues bindings consumers)

namespaces_ready() {
  kubectl apply -f - <<YAML
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: $namespace}}
- {apiVersion: v1, kind: Namespace, metadata: {name: $namespace-a, labels: {spillway-chart-test: host}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: $namespace-b, labels: {spillway-chart-test: guest}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: $namespace-restricted, labels: {pod-security.kubernetes.io/enforce: restricted}}}
YAML
}

# The Prometheus operator's definitions, so that its kinds are validated, too.
monitors_ready() {
  if kubectl get crd prometheusrules.monitoring.coreos.com >/dev/null 2>&1; then return; fi
  [[ -n ${SPILLWAY_TEST_PROMETHEUS_CRDS-} ]] || { echo "needs hack/testbed up tools"; return 1; }
  kubectl create -f "$SPILLWAY_TEST_PROMETHEUS_CRDS"
  touch "$scratch/made-monitors"
  kubectl wait --for=condition=Established crd/{podmonitors,servicemonitors,prometheusrules}.monitoring.coreos.com
}

cluster_prepare() {
  namespaces_ready
  if kubectl get crd topics.spillway.dev >/dev/null 2>&1; then
    touch "$scratch/had-crds"
    # An operator that watches the whole cluster would take them for its own. What another test left may be on its way out.
    local until=$((SECONDS + 180))
    while [[ -n $(kubectl get spillway -A -o name 2>/dev/null) ]]; do
      ((SECONDS < until)) || {
        echo "there are objects of Spillway in this cluster: run the test on one of its own"
        kubectl get spillway -A --no-headers | head -20
        return 1
      }
      sleep 2
    done
  fi
  broker_clean
  image_ready
  values_ready
  older_chart
  helm package "$chart" --destination "$scratch/packed" && mv "$scratch"/packed/*.tgz "$scratch/chart"
}

# The first chart there was, as it was committed, and in a checkout without history today's; either with a mark in a
# definition, which the upgrade has to replace.
older_chart() {
  local first=f2e8a47bedb8e8443bbc668d6343d104cefa9cd3
  mkdir "$scratch/older"
  if git archive "$first" charts/spillway 2>/dev/null | tar -C "$scratch/older" --strip-components=2 -x 2>/dev/null; then
    echo "note: the older chart is that of $(git show -s --format='%h, %as' "$first")"
  else
    cp -r "$chart"/. "$scratch/older"
    echo "note: the older chart is today's with a mark: the history is not here"
  fi
  sed -i 's/^version: .*/version: 0.0.1/' "$scratch/older/Chart.yaml"
  sed -i 's/^    - spillway$/    - spillway\n    - older/' "$scratch/older/files/crds/topics.yaml"
  helm package "$scratch/older" --destination "$scratch" && mv "$scratch/spillway-0.0.1.tgz" "$scratch/older.tgz"
}

image_ready() {
  if [[ -n ${SPILLWAY_TEST_IMAGE-} ]]; then return; fi
  [[ -n ${SPILLWAY_TEST_LOAD_IMAGE-} ]] || { echo "needs SPILLWAY_TEST_IMAGE: an image that nodes can pull"; return 1; }
  if [[ -n ${SPILLWAY_TEST_IMAGE_ARCHIVE-} ]]; then
    "$SPILLWAY_TEST_LOAD_IMAGE" "$SPILLWAY_TEST_IMAGE_ARCHIVE"
    echo "note: the pods run the image of $(basename "$SPILLWAY_TEST_IMAGE_ARCHIVE"), $(image_name)"
    return
  fi
  hack/image operator --prebuilt "$binary" --tag "$(image_name)" --out "$scratch/image.tar"
  "$SPILLWAY_TEST_LOAD_IMAGE" "$scratch/image.tar"
  rm "$scratch/image.tar"
}

image_name() {
  if [[ -n ${SPILLWAY_TEST_IMAGE-} ]]; then
    echo "$SPILLWAY_TEST_IMAGE"
  elif [[ -n ${SPILLWAY_TEST_IMAGE_ARCHIVE-} ]]; then
    tar -xOf "$SPILLWAY_TEST_IMAGE_ARCHIVE" manifest.json | jq -r '.[0].RepoTags[0]'
  else
    echo spillway:chart-test
  fi
}

# Where pods share the host's network there is room for one, on a port of its own, and the API server is on loopback.
values_ready() {
  local image server port node
  image=$(image_name)
  {
    echo "image: {repository: ${image%:*}, tag: ${image##*:}}"
    if [[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]]; then
      server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
      node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
      for ((port = 21850; ; port++)); do (: <"/dev/tcp/$node/$port") 2>/dev/null || break; done
      server=${server#https://}
      echo "replicas: 1"
      echo "httpAddress: '$node:$port'"
      echo "extraEnv: [{name: KUBERNETES_SERVICE_HOST, value: ${server%:*}}, {name: KUBERNETES_SERVICE_PORT, value: '${server##*:}'}]"
    fi
    # The binary of the tests is a debug build; and a Lease need not be waited for.
    echo "resources: {limits: {memory: 512Mi}}"
    echo "leaseSeconds: 5"
  } >"$scratch/values.yaml"
}

helm_settings() {
  echo --namespace "$namespace" --values "$scratch/values.yaml" --wait --timeout 120s
  if [[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]]; then echo --post-renderer "$tests/host-network/render"; fi
  # The definitions may have come from elsewhere before this test.
  echo --take-ownership
}

# chart_install CHART [--reuse|--namespaces]: what is used again gets the chart's own two replicas.
chart_install() {
  local more=()
  if [[ ${2-} != --reuse ]]; then
    rm -f "$scratch/requests"
    kubectl -n "$namespace" delete lease spillway --ignore-not-found
  fi
  [[ ${2-} != --namespaces ]] || more=(--values "$tests/values/namespaces.yaml")
  if [[ ${2-} == --reuse ]]; then
    more=(--set "replicas=$(sed -n 's/^replicas: //p' "$chart/values.yaml")")
    export SPILLWAY_TEST_TWO=true
  fi
  audit_begin
  # shellcheck disable=SC2046 # words, none with a space
  helm install spillway "$scratch/$1" $(helm_settings) "${more[@]}" || { pods_tell; return 1; }
}

# Both of the chart's replicas become ready, and one of them leads, which the Lease names.
one_of_two_leads() {
  local pods pod until=$((SECONDS + 60)) ready leads leader
  kubectl -n "$namespace" rollout status deployment/spillway --timeout=60s
  while ((SECONDS < until)); do
    ready=0 leads=0
    mapfile -t pods < <(kubectl -n "$namespace" get pods -l app.kubernetes.io/instance=spillway -o name)
    for pod in "${pods[@]}"; do
      if ask "$pod" /readyz >/dev/null; then ready=$((ready + 1)); fi
      if ask "$pod" /metrics | grep -x 'spillway_leader 1'; then leads=$((leads + 1)) leader=${pod#pod/}; fi
    done
    [[ ${#pods[@]} != 2 || $ready != 2 || $leads != 1 ]] || break
    sleep 0.2
  done
  [[ ${#pods[@]} == 2 && $ready == 2 && $leads == 1 ]] || { echo "${#pods[@]} pods, $ready ready, $leads lead"; pods_tell; return 1; }
  [[ $(kubectl -n "$namespace" get lease spillway -o jsonpath='{.spec.holderIdentity}') == "$leader" ]]
}

# ask POD PATH: what a replica answers, wherever it listens.
ask() {
  local address
  if [[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]]; then
    address=$(kubectl -n "$namespace" logs "$1" | jq -r 'select(.message | startswith("listening")).address') || return
    curl -sf --noproxy '*' "http://$address$2"
  else
    kubectl get --raw "/api/v1/namespaces/$namespace/pods/${1#pod/}:8080/proxy$2"
  fi
}

pods_tell() {
  kubectl -n "$namespace" get pods -o wide
  kubectl -n "$namespace" describe pods | tail -n 15
  kubectl -n "$namespace" logs -l app.kubernetes.io/instance=spillway --prefix --tail=20
}

# A chart is upgraded under a leader and a standby, while somebody edits. The Lease would take longer to expire than any
# edit may take to arrive: who leads hands over.
patient=15
chart_upgrade() {
  local kind
  kubectl get crd topics.spillway.dev -o jsonpath='{.spec.names.categories}' | grep -F older
  snapshot >"$scratch/before"
  standby_begin
  edits_begin
  # shellcheck disable=SC2046
  helm upgrade spillway "$scratch/chart" $(helm_settings) --set "log=debug,leaseSeconds=$patient" || { pods_tell; return 1; }
  standby_follow
  edits_end
  kubectl get crd topics.spillway.dev -o jsonpath='{.spec.names.categories}' | tee "$scratch/categories"
  if grep -F older "$scratch/categories"; then return 1; fi
  for kind in "${crds[@]}"; do
    kubectl get crd "$kind.spillway.dev" -o json | jq -S '.spec.versions[].schema' >"$scratch/stored"
    kubectl create --dry-run=client -o json -f "$chart/files/crds/$kind.yaml" | jq -S '.spec.versions[].schema' | diff -u - "$scratch/stored"
  done
  ready_all
  snapshot >"$scratch/after"
  diff -u "$scratch/before" "$scratch/after"
}

# Where pods have a network of their own, the chart's two replicas are there from the start. Where they share the host's,
# the second one is a Deployment beside the first, which differs in its port, and is replaced after it.
standby_begin() {
  [[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]] || return 0
  local address port name
  address=$(sed -n "s/^httpAddress: '\(.*\)'/\1/p" "$scratch/values.yaml")
  for ((port = ${address##*:} + 1; ; port++)); do (: <"/dev/tcp/${address%:*}/$port") 2>/dev/null || break; done
  export SPILLWAY_TEST_STANDBY="${address%:*}:$port"
  # shellcheck disable=SC2046
  helm upgrade spillway "$scratch/older.tgz" $(helm_settings) --set "leaseSeconds=$patient" || { pods_tell; return 1; }
  for name in spillway spillway-standby; do kubectl -n "$namespace" rollout status "deployment/$name" --timeout=60s; done
  # It is replaced when the first one has been.
  export SPILLWAY_TEST_STANDBY_PAUSED=true
}

standby_follow() {
  [[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]] || return 0
  kubectl -n "$namespace" rollout status deployment/spillway --timeout=60s
  kubectl -n "$namespace" rollout resume deployment/spillway-standby
  kubectl -n "$namespace" rollout status deployment/spillway-standby --timeout=60s
}

# A binding more every half second, and when the broker had it.
edits_begin() {
  a apply -f - <<YAML
apiVersion: spillway.dev/v1alpha1
kind: Queue
metadata: {name: edited}
spec: {brokerRef: {name: rabbitmq}, name: $prefix.edited, deletionPolicy: Delete, bindings: [{source: amq.topic, routingKey: edit.0}]}
YAML
  a wait --for=condition=Ready queue.spillway.dev/edited --timeout=30s
  : >"$scratch/edits" >"$scratch/arrivals" >"$scratch/seen"
  edits_make &
  maker=$!
  edits_see &
  seer=$!
}

edits_make() {
  local n edit
  for ((n = 1; n < 200; n++)); do
    [[ -d $scratch && ! -e $scratch/edits-made ]] || return 0
    edit="{\"op\": \"add\", \"path\": \"/spec/bindings/-\", \"value\": {\"source\": \"amq.topic\", \"routingKey\": \"edit.$n\"}}"
    a patch queue.spillway.dev edited --type json -p "[$edit]"
    echo "edit.$n $(date +%s%3N)" >>"$scratch/edits"
    sleep 0.5
  done
}

edits_see() {
  while [[ -d $scratch && ! -e $scratch/edits-seen ]]; do
    curl -sf "$SPILLWAY_TEST_RABBITMQ/api/queues/%2F/$prefix.edited/bindings" |
      jq -r '.[].routing_key | select(startswith("edit."))' | sort >"$scratch/now"
    comm -13 "$scratch/seen" "$scratch/now" | sed "s/\$/ $(date +%s%3N)/" >>"$scratch/arrivals"
    mv "$scratch/now" "$scratch/seen"
    sleep 0.1
  done
}

# Each edit has to arrive, the slowest sooner than a Lease expires.
edits_end() {
  local until slowest made
  # A quick upgrade is over before there were many.
  while (($(wc -l <"$scratch/edits") < 10)) && kill -0 "$maker"; do sleep 0.2; done
  touch "$scratch/edits-made"
  wait "$maker"
  made=$(wc -l <"$scratch/edits")
  until=$((SECONDS + 20))
  while ((SECONDS < until)) && (($(grep -vc '^edit.0 ' "$scratch/arrivals") < made)); do sleep 0.2; done
  touch "$scratch/edits-seen"
  wait "$seer"
  join <(sort "$scratch/edits") <(sort "$scratch/arrivals") | awk '{print $3 - $2, $1}' | sort -n >"$scratch/delays"
  slowest=$(tail -n 1 "$scratch/delays")
  printf 'note: %d edits during the upgrade; at the broker after %d ms (the middle one) and %d ms (the slowest, %s)\n' \
    "$made" "$(awk '{d[NR] = $1} END {print d[int((NR + 1) / 2)]}' "$scratch/delays")" ${slowest% *} "${slowest#* }"
  (($(wc -l <"$scratch/delays") == made && made >= 10)) || { echo "of $made edits (10 at least) $(wc -l <"$scratch/delays") arrived"; return 1; }
  ((${slowest% *} < 10000)) || { tail -n 5 "$scratch/delays"; return 1; }
  a delete queue.spillway.dev edited --timeout=30s
}

chart_uninstall() {
  local began=$SECONDS
  snapshot >"$scratch/before"
  audit_end
  helm uninstall spillway --namespace "$namespace" --wait --timeout 60s
  printf 'note: helm uninstall took %d s; %d objects and %d at the brokers stayed\n' $((SECONDS - began)) \
    "$(grep -c '^object ' "$scratch/before")" "$(grep -vc '^object ' "$scratch/before")"
  snapshot >"$scratch/after"
  diff -u "$scratch/before" "$scratch/after"
  kubectl get crd "${crds[@]/%/.spillway.dev}" -o name
  # `helm uninstall --wait` waits for what it made itself: pods go a moment after their Deployment.
  kubectl -n "$namespace" wait --for=delete deployments,pods,serviceaccounts,roles,rolebindings -l app.kubernetes.io/instance=spillway --timeout=60s
  kubectl wait --for=delete clusterroles,clusterrolebindings -l app.kubernetes.io/instance=spillway --timeout=60s
}

# Somebody else writes himself into the Lease: the leader stops and goes, comes back as a standby, and leads again when
# the other one's time is up.
lease_taken() {
  local leader
  leader=$(kubectl -n "$namespace" get lease spillway -o jsonpath='{.spec.holderIdentity}')
  kubectl -n "$namespace" patch lease spillway --type merge \
    -p "{\"spec\": {\"holderIdentity\": \"somebody\", \"leaseDurationSeconds\": 3, \"renewTime\": \"$(date -u +%FT%T.000000Z)\"}}"
  kubectl -n "$namespace" wait --for=jsonpath='{.spec.holderIdentity}'="$leader" lease/spillway --timeout=60s
  # The kubelet tells of the restart a little later.
  kubectl -n "$namespace" wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 "pod/$leader" --timeout=60s
  kubectl -n "$namespace" wait --for=condition=Ready "pod/$leader" --timeout=30s
}

# Every object with what identifies it, and what the brokers have.
snapshot() {
  kubectl get spillway -A -o json | jq -r '.items[] |
    "object \(.kind) \(.metadata.namespace)/\(.metadata.name) \(.metadata.uid) \(.metadata.generation) \(.status.topicId // "")"' | sort
  broker_list
}

broker_list() {
  kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA" --list | sed -n "s/^$prefix/topic &/p" | sort
  local kind
  for kind in exchanges queues; do
    curl -sf "$SPILLWAY_TEST_RABBITMQ/api/$kind/%2F?columns=name" | jq -r --arg kind "${kind%s}" --arg prefix "$prefix" \
      '.[] | select(.name | startswith($prefix)) | "\($kind) \(.name)"' | sort
  done
}

broker_clean() {
  kafka-topics --bootstrap-server "$SPILLWAY_TEST_KAFKA" --delete --if-exists --topic "$prefix.*"
  local kind name
  broker_list | while read -r kind name; do
    [[ $kind == topic ]] || curl -sf -X DELETE "$SPILLWAY_TEST_RABBITMQ/api/${kind}s/%2F/$name"
  done
  [[ -z $(broker_list) ]] || { echo "left at the brokers:"; broker_list; return 1; }
}

# apply NAMESPACE FILE: with the addresses of the environment.
apply() {
  local rabbitmq=${SPILLWAY_TEST_RABBITMQ#*://} kafka=${SPILLWAY_TEST_KAFKA_SASL:-$SPILLWAY_TEST_KAFKA}
  local user=${rabbitmq%%@*}
  sed -e "s|\${KAFKA}|$kafka|; s|\${PREFIX}|$prefix|g" \
    -e "s|\${KAFKA_USER}|${SPILLWAY_TEST_KAFKA_USER-}|; s|\${KAFKA_PASSWORD}|${SPILLWAY_TEST_KAFKA_PASSWORD-}|" \
    -e "s|\${RABBITMQ}|http://${rabbitmq#*@}|; s|\${RABBITMQ_USER}|${user%%:*}|; s|\${RABBITMQ_PASSWORD}|${user#*:}|" \
    -e "s|\${HOST_NETWORK}|$([[ -n ${SPILLWAY_TEST_HOST_NETWORK-} ]] && echo true || echo false)|" \
    -e "s|\${PAUSE_IMAGE}|${SPILLWAY_TEST_PAUSE_IMAGE:-spillway.dev/testbed/pause:$PAUSE_VERSION}|" \
    "$tests/objects/$2.yaml" | kubectl -n "$1" apply -f -
}

a() { kubectl -n "$namespace-a" "$@"; }

objects_reach_ready() {
  local began=$SECONDS
  apply "$namespace-a" secrets
  apply "$namespace-a" topology
  apply "$namespace-a" consumers
  apply "$namespace-b" guest
  ready_all
  printf 'note: %d objects Ready after %d s\n' "$(kubectl get spillway -A -o name | wc -l)" $((SECONDS - began))
  a wait --for=jsonpath='{.spec.replicas}'=1 deployment/worker statefulset/ordered deployment/made --timeout=30s
}

# All but the two that cannot be.
ready_all() {
  local kind status=0
  for kind in "${crds[@]}"; do
    a wait --for=condition=Ready "$kind.spillway.dev" --all -l '!expect' --timeout=20s || status=1
  done
  kubectl -n "$namespace-b" wait --for=condition=Ready topics.spillway.dev --all --timeout=20s || status=1
  a wait --for=jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'=Conflict topics.spillway.dev,queues.spillway.dev \
    -l expect=conflict --timeout=20s || status=1
  ((status == 0)) || { kubectl get spillway -A -o wide; kubectl -n "$namespace" logs -l app.kubernetes.io/instance=spillway --prefix --tail=20; return 1; }
}

objects_change() {
  # A companion that is not wanted any more goes; what it stands for stays at the broker.
  a patch topic.spillway.dev orders --type merge -p '{"spec":{"retry":{"delays":["10s"]}}}'
  a patch queue.spillway.dev work --type merge -p '{"spec":{"retry":{"delays":["10s"]}}}'
  a wait --for=delete topic.spillway.dev/orders.retry.1m queue.spillway.dev/work.retry.1m --timeout=30s
  broker_list >"$scratch/brokers"
  grep -xF "topic $prefix.orders.retry.1m" "$scratch/brokers"
  grep -xF "queue $prefix.work.retry.1m" "$scratch/brokers"
  # A template that changes is applied again, and the event of the first time is counted up.
  a patch consumer.spillway.dev made --type json -p '[{"op": "add", "path": "/spec/template/spec/containers/0/env", "value": [{"name": "A", "value": "b"}]}]'
  a wait --for=jsonpath='{.spec.template.spec.containers[0].env[?(@.name=="A")].value}'=b deployment/made --timeout=30s
  # Credentials that are gone hold a deletion up until they are back: is the namespace on its way out, too?
  a delete secret spare
  a wait --for=jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'=SecretNotFound broker.spillway.dev/spare --timeout=30s
  a delete topic.spillway.dev spare --wait=false
  a wait --for=jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'=SecretNotFound topic.spillway.dev/spare --timeout=30s
  apply "$namespace-a" secrets
  a wait --for=delete topic.spillway.dev/spare --timeout=60s
}

objects_go() {
  local began=$SECONDS
  kubectl -n "$namespace-b" delete topics.spillway.dev --all --timeout=60s
  a delete consumers.spillway.dev,bindings.spillway.dev,queues.spillway.dev,exchanges.spillway.dev,topics.spillway.dev --all --timeout=60s
  a delete brokers.spillway.dev --all --timeout=60s
  a delete deployments,statefulsets,secrets --all --wait=false
  printf 'note: gone after %d s\n' $((SECONDS - began))
  # What dead letters and retries may hold stays; everything else said Delete.
  broker_list >"$scratch/brokers"
  diff -u - "$scratch/brokers" <<LEFT
topic $prefix.orders.dlq
topic $prefix.orders.retry.10s
topic $prefix.orders.retry.1m
queue $prefix.failed
queue $prefix.work.retry.10s
queue $prefix.work.retry.1m
LEFT
  broker_clean
}

# Takes away all that the test made, whatever became of it.
cluster_leave() {
  local kind name where
  if helm status spillway --namespace "$namespace" >/dev/null 2>&1; then
    helm uninstall spillway --namespace "$namespace" --wait --timeout 60s
  fi
  for where in "$namespace-a" "$namespace-b"; do
    for kind in "${crds[@]}"; do
      kubectl -n "$where" get "$kind.spillway.dev" -o name 2>/dev/null | while read -r name; do
        kubectl -n "$where" patch "$name" --type merge -p '{"metadata":{"finalizers":null}}'
      done
    done
  done
  kubectl delete namespace "$namespace" "$namespace"-{a,b,restricted} --ignore-not-found --timeout=120s
  [[ -e $scratch/had-crds ]] || kubectl delete crd "${crds[@]/%/.spillway.dev}" --ignore-not-found --timeout=60s
  if [[ -e $scratch/made-monitors ]]; then kubectl delete -f "$SPILLWAY_TEST_PROMETHEUS_CRDS" --timeout=60s; fi
  broker_clean
}
