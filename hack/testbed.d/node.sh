# shellcheck shell=bash
# The node: containerd with runc, and the kubelet. Its folders, sockets and control groups all lie below the bed's own.

NODE_NAME=spillway-testbed
CONTAINERD_SOCKET=$RUN/containerd.sock
PAUSE_IMAGE=spillway.dev/testbed/pause:$PAUSE_VERSION

containerd_artefact() {
  # shellcheck source=/dev/null
  echo "$ARTEFACTS/containerd-$(source /etc/os-release && echo "${ID:-linux}-${VERSION_ID:-}")"
}
containerd_install() { artefact kubernetes "$(basename "$(containerd_artefact)")" containerd; }
ctr_run() { "$(containerd_artefact)/usr/bin/ctr" --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

node_configure() {
  local dir=$K8S_DATA/node
  [[ ! -e $dir/configured ]] || return 0
  mkdir -p "$dir"
  network_cni "$dir/cni"
  leaf_ready "$K8S_DATA/pki" kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" "IP:$NODE_IP,DNS:$NODE_NAME"
  containerd_configure >"$dir/containerd.toml"
  kubelet_configure >"$dir/kubelet.yaml"
  touch "$dir/configured"
}

containerd_configure() {
  local dir=$K8S_DATA/node
  cat <<TOML
version = 2
root = "$dir/containerd/root"
state = "$dir/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$CONTAINERD_SOCKET"
[ttrpc]
  address = "$CONTAINERD_SOCKET.ttrpc"
[debug]
  address = "$CONTAINERD_SOCKET.debug"
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  stream_server_address = "127.0.0.1"
  # A machine may lack the right to lower a process's score for the out-of-memory killer.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$dir/cni/bin"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "$(containerd_artefact)/usr/sbin/runc"
        Root = "$dir/containerd/runc"
        SystemdCgroup = false
TOML
}

kubelet_configure() {
  local dir=$K8S_DATA/node
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
port: $PORT_KUBELET
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: $PORT_KUBELET_HEALTHZ
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $K8S_DATA/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $K8S_DATA/pki/kubelet.crt
tlsPrivateKeyFile: $K8S_DATA/pki/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
maxPods: 250
oomScoreAdj: 0
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
volumePluginDir: $dir/volume-plugins
podLogsDir: $dir/pod-logs
resolvConf: ""
syncFrequency: 5s
kubeAPIQPS: 500
kubeAPIBurst: 1000
eventRecordQPS: 0
registryPullQPS: 0
serializeImagePulls: false
# Images come in by hand and are never fetched: the kubelet must not throw one away.
imageGCHighThresholdPercent: 100
imageMaximumGCAge: 0s
evictionHard: {memory.available: 50Mi, nodefs.available: 50Mi, imagefs.available: 50Mi}
evictionPressureTransitionPeriod: 5s
shutdownGracePeriod: 0s
logging: {format: text}
YAML
}

containerd_start() {
  local tools
  tools=$(containerd_artefact)/usr
  unit_start kubernetes containerd -- env "PATH=$tools/bin:$tools/sbin:$PATH" "$tools/bin/containerd" \
    --config "$K8S_DATA/node/containerd.toml"
}

# containerd_ready: it answers, its Kubernetes side too, and the sandbox image is in.
containerd_ready() {
  unit_ready containerd 30 containerd_answers
  if ! ctr_run images ls -q | grep -xF "$PAUSE_IMAGE" >/dev/null; then
    quiet ctr_run images import "$(pause_artefact)/image.tar" || die "could not import the sandbox image"
  fi
}
containerd_answers() { ctr_run plugins ls 2>/dev/null | grep -E 'grpc.v1 +cri .* ok' >/dev/null; }

kubelet_start() {
  unit_start kubernetes kubelet "$PORT_KUBELET" "$PORT_KUBELET_HEALTHZ" -- "$(kubernetes_artefact)/kubelet" \
    --config "$K8S_DATA/node/kubelet.yaml" --kubeconfig "$K8S_DATA/kubelet.kubeconfig" \
    --root-dir "$K8S_DATA/node/kubelet" --cert-dir "$K8S_DATA/pki" \
    --hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
}

# node_ready: the kubelet answers, the node says Ready, and pods are admitted (their service account is there).
node_ready() {
  [[ $(http_code "http://127.0.0.1:$PORT_KUBELET_HEALTHZ/healthz") == 200 ]] &&
    api_get "/api/v1/nodes/$NODE_NAME" |
    jq -e '.status.conditions | any(.type == "Ready" and .status == "True")' >/dev/null &&
    api_get /api/v1/namespaces/default/serviceaccounts/default >/dev/null
}

# pods_end: ends every container. With cgroupsPerQOS off their control groups are /k8s.io/ID, so it takes the ids
# that this bed's containerd has a folder for: another containerd's pods are left alone.
pods_end() {
  local bundle ids=() groups=() sockets=()
  for bundle in "$K8S_DATA"/node/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/; do
    [[ -d $bundle ]] || continue
    ids+=("k8s.io/$(basename "$bundle")")
    # The shim's socket lies in /run/containerd, whatever the configuration says.
    [[ ! -e $bundle/address ]] || sockets+=("$(sed 's#^unix://##' "$bundle/address")")
  done
  mapfile -t groups < <(cgroup_dirs "${ids[@]}")
  cgroup_end "${groups[@]}"
  rm -f "${sockets[@]}"
}

# node_clean: what the node left behind: containers, mounts, folders.
node_clean() {
  local folder groups=()
  pods_end
  mapfile -t groups < <(cgroup_dirs k8s.io)
  [[ ${#groups[@]} -eq 0 ]] || rmdir --ignore-fail-on-non-empty "${groups[@]}"
  mounts_clean
  # The kubelet and containerd make these whatever their configuration says. Only what is empty goes, and only when
  # no other node runs on the machine.
  if ! { pgrep -x kubelet || pgrep -x containerd; } >/dev/null; then
    rm -f /var/lib/kubelet/device-plugins/kubelet.sock
    for folder in /var/lib/kubelet /var/log/containers /run/containerd; do
      [[ -d $folder ]] || continue
      find "$folder" -xtype l -delete
      find "$folder" -depth -type d -empty -delete
    done
  fi
}

# mounts_clean: pods' volumes and root file systems are mounts below the bed's folder; the deepest goes first.
mounts_clean() {
  local mount
  awk -v run="$RUN/" 'index($5, run) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
    quiet umount "$mount" || quiet umount --lazy "$mount" || die "could not unmount $mount"
  done
}
