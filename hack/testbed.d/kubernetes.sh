# shellcheck shell=bash disable=SC2034 # the other files read these names
# Kubernetes' control plane: etcd, API server, controller manager, scheduler. node.sh has the node below it.

K8S_DATA=$RUN/data/kubernetes
K8S_URL=https://127.0.0.1:$PORT_KUBE_APISERVER
K8S_SERVICE_CIDR=10.96.0.0/16
K8S_SERVICE_IP=10.96.0.1 # the first of them: the service `kubernetes`
ADMIN_KUBECONFIG=$K8S_DATA/admin.kubeconfig
AUDIT_LOG=$K8S_DATA/audit.log

kubernetes_artefact() { echo "$ARTEFACTS/kubernetes-$K8S_VERSION-$(digest "$BED_SOURCE"/kubernetes/go.{mod,sum})"; }
kubernetes_install() { artefact kubernetes "$(basename "$(kubernetes_artefact)")" kubernetes; }

kubernetes_part_up() {
  local unit helper
  # What is fetched comes in while Go builds, which takes by far the longest.
  trixie_install kubernetes &
  helper=$!
  containerd_install
  if [[ ! -d $(kubernetes_artefact) || ! -d $(pause_artefact) ]]; then go_ready; fi
  kubernetes_install
  pause_install
  wait "$helper" || die "kubernetes needs etcd from Debian $DEBIAN_SUITE, which could not be installed"
  network_up
  kubernetes_configure
  node_configure
  for unit in "${KUBERNETES_UNITS[@]}"; do
    unit_runs "$unit" || kubernetes_unit_start "$unit"
    # The kubelet takes the longest: it is waited for with the node as a whole.
    [[ $unit == kubelet ]] || kubernetes_unit_ready "$unit"
  done
  kubernetes_unit_ready kubelet
}

# kubernetes_configure: keys, certificates, tokens and configuration files, made once for a life of the bed.
kubernetes_configure() {
  [[ ! -e $K8S_DATA/configured ]] || return 0
  mkdir -p "$K8S_DATA/pki" "$K8S_DATA/etcd"
  chmod 700 "$K8S_DATA/etcd"
  ca_ready "$K8S_DATA/pki" "Spillway test bed Kubernetes"
  leaf_ready "$K8S_DATA/pki" apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$NODE_IP,IP:$K8S_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  leaf_ready "$K8S_DATA/pki" kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client ""
  quiet openssl genrsa -out "$K8S_DATA/pki/service-account.key" 2048
  : >"$K8S_DATA/tokens.csv"
  chmod 600 "$K8S_DATA/tokens.csv"
  kubernetes_user admin admin system:masters
  kubernetes_user controller-manager system:kube-controller-manager ""
  kubernetes_user scheduler system:kube-scheduler ""
  kubernetes_user kubelet "system:node:$NODE_NAME" system:nodes
  cat >"$K8S_DATA/audit-policy.yaml" <<'YAML'
# Who wrote what: one line of metadata for each finished write, nothing for reads. Of the service accounts in
# spillway-chart-test reads count, too: the chart's test compares what they may do with what they do.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
  - level: Metadata
    userGroups: ["system:serviceaccounts:spillway-chart-test"]
  - level: None
YAML
  cat >"$K8S_DATA/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $K8S_DATA/scheduler.kubeconfig, qps: 500, burst: 1000}
leaderElection: {leaderElect: false}
YAML
  touch "$K8S_DATA/configured"
}

# kubernetes_user FILE NAME GROUP: a token, and a kubeconfig that carries it.
kubernetes_user() {
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"$3\"" >>"$K8S_DATA/tokens.csv"
  cat >"$K8S_DATA/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: spillway-testbed, cluster: {server: "$K8S_URL", certificate-authority-data: $(base64 -w0 "$K8S_DATA/pki/ca.crt")}}]
users: [{name: $1, user: {token: $token}}]
contexts: [{name: spillway-testbed, context: {cluster: spillway-testbed, user: $1}}]
current-context: spillway-testbed
YAML
  chmod 600 "$K8S_DATA/$1.kubeconfig"
}

kubernetes_unit_start() {
  local bin
  # A quarter of the API server's CPU went to collecting garbage: memory is cheaper here, up to a limit.
  local -x GOGC=400 GOMEMLIMIT=1536MiB
  bin=$(kubernetes_artefact)
  case $1 in
    etcd)
      unit_start kubernetes etcd "$PORT_ETCD_CLIENT" "$PORT_ETCD_PEER" -- "$(trixie_artefact)/usr/bin/etcd" \
        --name testbed --data-dir "$K8S_DATA/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 4294967296 \
        --listen-client-urls "http://127.0.0.1:$PORT_ETCD_CLIENT" \
        --advertise-client-urls "http://127.0.0.1:$PORT_ETCD_CLIENT" \
        --listen-peer-urls "http://127.0.0.1:$PORT_ETCD_PEER" \
        --initial-advertise-peer-urls "http://127.0.0.1:$PORT_ETCD_PEER" \
        --initial-cluster "testbed=http://127.0.0.1:$PORT_ETCD_PEER"
      ;;
    kube-apiserver)
      unit_start kubernetes kube-apiserver "$PORT_KUBE_APISERVER" -- "$bin/kube-apiserver" \
        --etcd-servers "http://127.0.0.1:$PORT_ETCD_CLIENT" \
        --bind-address 127.0.0.1 --secure-port "$PORT_KUBE_APISERVER" --advertise-address "$NODE_IP" \
        --service-cluster-ip-range "$K8S_SERVICE_CIDR" --allow-privileged \
        --tls-cert-file "$K8S_DATA/pki/apiserver.crt" --tls-private-key-file "$K8S_DATA/pki/apiserver.key" \
        --client-ca-file "$K8S_DATA/pki/ca.crt" --token-auth-file "$K8S_DATA/tokens.csv" \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --service-account-issuer https://kubernetes.default.svc \
        --service-account-key-file "$K8S_DATA/pki/service-account.key" \
        --service-account-signing-key-file "$K8S_DATA/pki/service-account.key" \
        --kubelet-client-certificate "$K8S_DATA/pki/kubelet-client.crt" \
        --kubelet-client-key "$K8S_DATA/pki/kubelet-client.key" \
        --kubelet-certificate-authority "$K8S_DATA/pki/ca.crt" \
        --kubelet-preferred-address-types InternalIP \
        --max-requests-inflight 1200 --max-mutating-requests-inflight 600 \
        --audit-policy-file "$K8S_DATA/audit-policy.yaml" --audit-log-path "$AUDIT_LOG" \
        --audit-log-maxsize 4096 --audit-log-maxbackup 1 --profiling=false
      ;;
    kube-controller-manager)
      unit_start kubernetes kube-controller-manager "$PORT_KUBE_CONTROLLER_MANAGER" -- "$bin/kube-controller-manager" \
        --kubeconfig "$K8S_DATA/controller-manager.kubeconfig" --leader-elect=false \
        --bind-address 127.0.0.1 --secure-port "$PORT_KUBE_CONTROLLER_MANAGER" --cert-dir "$K8S_DATA/pki" \
        --use-service-account-credentials --root-ca-file "$K8S_DATA/pki/ca.crt" \
        --service-account-private-key-file "$K8S_DATA/pki/service-account.key" \
        --kube-api-qps 500 --kube-api-burst 1000 --concurrent-namespace-syncs 30 --profiling=false
      ;;
    kube-scheduler)
      unit_start kubernetes kube-scheduler "$PORT_KUBE_SCHEDULER" -- "$bin/kube-scheduler" \
        --config "$K8S_DATA/scheduler.yaml" \
        --bind-address 127.0.0.1 --secure-port "$PORT_KUBE_SCHEDULER" --cert-dir "$K8S_DATA/pki"
      ;;
    containerd) containerd_start ;;
    kubelet) kubelet_start ;;
    *) die "kubernetes has no process '$1'" ;;
  esac
}

kubernetes_unit_ready() {
  case $1 in
    etcd) unit_ready etcd 30 etcd_healthy ;;
    kube-apiserver) unit_ready kube-apiserver 60 apiserver_ready ;;
    kube-controller-manager) unit_ready "$1" 30 healthz_ok "$PORT_KUBE_CONTROLLER_MANAGER" ;;
    kube-scheduler) unit_ready "$1" 30 healthz_ok "$PORT_KUBE_SCHEDULER" ;;
    containerd) containerd_ready ;;
    kubelet) unit_ready kubelet 90 node_ready ;;
  esac
}

etcd_healthy() { [[ $(http_code "http://127.0.0.1:$PORT_ETCD_CLIENT/health") == 200 ]]; }
healthz_ok() { [[ $(http_code "https://127.0.0.1:$1/healthz" -k) == 200 ]]; }
apiserver_ready() { api_get /readyz >/dev/null; }

# api_get PATH: as the administrator; fails on any answer but success.
api_get() {
  curl -sf -m 5 --noproxy '*' --cacert "$K8S_DATA/pki/ca.crt" \
    -H "Authorization: Bearer $(head -n 1 "$K8S_DATA/tokens.csv" | cut -d, -f1)" "$K8S_URL$1"
}
