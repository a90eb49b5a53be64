#!/usr/bin/env bash
# How each artefact is made: `recipe SOURCE FOLDER NAME` fills FOLDER. Called by `artefact`, which renames the folder
# when the recipe has succeeded, so a recipe may fail at any line.
set -euo pipefail
BED_SOURCE=$1
FOLDER=$2
# shellcheck source=/dev/null
source "$BED_SOURCE/versions"

# go_build MODULE LDFLAGS PACKAGE…: one Go build at a time on the machine: each alone fills all its cores.
go_build() {
  local module=$1 ldflags=$2
  shift 2
  exec 7>>"${FOLDER%/*}/.locks/go-build"
  flock 7
  cd "$BED_SOURCE/$module"
  GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $ldflags" -o "$FOLDER/" "$@" 7>&-
  exec 7>&-
}

# pinned MODULE NAME VERSION: the module file and the file `versions` agree.
pinned() {
  local has
  has=$(cd "$BED_SOURCE/$1" && go list -mod=readonly -m -f '{{.Version}}' "$2")
  if [[ $has != "v$3" ]]; then
    echo "$1/go.mod pins $2 at $has, versions says v$3: make them one"
    exit 1
  fi
}

kubernetes_flags() {
  local minor=${K8S_VERSION#*.}
  local version=k8s.io/component-base/version
  echo "-X $version.gitVersion=v$K8S_VERSION -X $version.gitMajor=${K8S_VERSION%%.*} -X $version.gitMinor=${minor%%.*}"
}

kubernetes() {
  pinned kubernetes k8s.io/kubernetes "$K8S_VERSION"
  go_build kubernetes "$(kubernetes_flags)" k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet}
}

kubectl() {
  pinned kubernetes k8s.io/kubernetes "$K8S_VERSION"
  go_build kubernetes "$(kubernetes_flags)" k8s.io/kubernetes/cmd/kubectl
}

helm() {
  pinned helm helm.sh/helm/v3 "$HELM_VERSION"
  go_build helm "-X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION" helm.sh/helm/v3/cmd/helm
}

# Prometheus and promtool as the distribution packages them, unpacked and not installed: the package would start a server.
prometheus() {
  local module=github.com/prometheus-operator/prometheus-operator crds
  mkdir "$FOLDER/.packages" "$FOLDER/crds"
  cd "$FOLDER/.packages"
  apt-get -o APT::Sandbox::User=root download prometheus
  dpkg-deb -x ./prometheus_*.deb .
  mv usr/bin/{prometheus,promtool} "$FOLDER/"
  rm -r "$FOLDER/.packages"
  "$FOLDER/promtool" --version
  cd "$BED_SOURCE/prometheus"
  crds=$(GOFLAGS=-mod=readonly go mod download -json "$module" | jq -r .Dir)/example/prometheus-operator-crd
  cp "$crds"/monitoring.coreos.com_{podmonitors,servicemonitors,prometheusrules}.yaml "$FOLDER/crds/"
}

# The sandbox image as an archive: one layer with one static binary.
pause() {
  local layer config
  mkdir "$FOLDER/layer"
  go_build kubernetes/pause "" ./...
  mv "$FOLDER/pause" "$FOLDER/layer/pause"
  tar -C "$FOLDER/layer" --owner=0 --group=0 -cf "$FOLDER/layer.tar" pause
  layer=$(sha256sum "$FOLDER/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(go env GOARCH)" "$layer" >"$FOLDER/config.json"
  config=$(sha256sum "$FOLDER/config.json" | cut -d' ' -f1)
  mv "$FOLDER/config.json" "$FOLDER/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["spillway.dev/testbed/pause:%s"],"Layers":["layer.tar"]}]' \
    "$config" "$PAUSE_VERSION" >"$FOLDER/manifest.json"
  tar -C "$FOLDER" -cf "$FOLDER/image.tar" manifest.json "$config.json" layer.tar
  rm -r "$FOLDER/layer" "$FOLDER/layer.tar" "$FOLDER/manifest.json" "$FOLDER/$config.json"
}

# containerd and runc as this machine's own distribution packages them, unpacked beside the system, not into it.
containerd() {
  mkdir "$FOLDER/.packages"
  cd "$FOLDER/.packages"
  apt-get -o APT::Sandbox::User=root download containerd runc
  for package in ./*.deb; do dpkg-deb -x "$package" "$FOLDER"; done
  rm -r "$FOLDER/.packages"
  "$FOLDER/usr/bin/containerd" --version
  "$FOLDER/usr/sbin/runc" --version
}

kafka() {
  mvn -B -ntp -f "$BED_SOURCE/kafka/pom.xml" -Dkafka.version="$KAFKA_VERSION" -Dlog4j.version="$LOG4J_VERSION" \
    dependency:copy-dependencies -DoutputDirectory="$FOLDER/libs"
}

# The mirror that this machine's own apt uses for its main archive.
debian_mirror() {
  local codename mirror
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' |
    awk -v release="$codename" '$1 == "Packages" && $3 == release && $4 == "main" && $5 == "Debian" && !seen++ { print $2 }')
  echo "${mirror:-http://deb.debian.org/debian}"
}

trixie() {
  debootstrap --variant=minbase --include="$DEBIAN_PACKAGES" "$DEBIAN_SUITE" "$FOLDER" "$(debian_mirror)"
  rm -rf "$FOLDER"/var/cache/apt/archives/*.deb
  grep -q localhost "$FOLDER/etc/hosts" 2>/dev/null || echo '127.0.0.1 localhost' >>"$FOLDER/etc/hosts"
  "$FOLDER/usr/bin/etcd" --version
  ls "$FOLDER/usr/lib/rabbitmq/lib"
}

"$3"
