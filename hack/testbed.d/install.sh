# shellcheck shell=bash
# Artefacts: what is built or fetched once, each in a folder of its own under $ARTEFACTS, named by its version. A
# folder is there only when it is whole: work happens in a temporary one, which is renamed at the end.

# artefact WHO KEY RECIPE…: makes $ARTEFACTS/KEY by `RECIPE… FOLDER` if it is not there. Two beds can ask at once.
artefact() {
  local who=$1 key=$2 target=$ARTEFACTS/$2 began temporary log
  shift 2
  [[ ! -d $target ]] || return 0
  mkdir -p "$ARTEFACTS/.locks" "$ARTEFACTS/.logs"
  began=$(now_ms)
  exec 8>>"$ARTEFACTS/.locks/$key"
  flock 8
  if [[ ! -d $target ]]; then
    temporary=$ARTEFACTS/.building-$key
    log=$ARTEFACTS/.logs/$key
    say "$who" "installing $key (follow it: tail -f $log)"
    rm -rf --one-file-system "$temporary"
    mkdir -p "$temporary"
    # The recipe is a process of its own: `set -e` does not reach into a function that is tested here.
    if ! artefact_recipe "$temporary" "$@" >"$log" 2>&1 8>&-; then
      tail -n 25 "$log" | sed "s/^/    $key: /" >&2
      die "could not install $key; the whole log: $log"
    fi
    mv "$temporary" "$target"
    say "$who" "installed $key ($(seconds_since "$began"))"
  fi
  exec 8>&-
}

artefact_recipe() {
  local folder=$1
  shift
  bash "$BED_SOURCE/recipe.sh" "$BED_SOURCE" "$folder" "$@"
}

# digest FILE…: names a version of the recipe's own inputs.
digest() { cat "$@" | sha256sum | cut -c1-8; }

# packages_ready PART…: apt installs what the parts need and the machine lacks, in one go, before anything else.
packages_ready() {
  local part missing=() began log
  want() { command -v "$1" >/dev/null || missing+=("$2"); }
  want flock util-linux
  want ip iproute2
  want pgrep procps
  want curl curl
  want openssl openssl
  want jq jq
  for part in "$@"; do
    case $part in
      kafka)
        want java openjdk-17-jre-headless
        [[ -d $(kafka_artefact) ]] || want mvn maven
        ;;
      rabbitmq) [[ -d $(trixie_artefact) ]] || want debootstrap debootstrap ;;
      kubernetes)
        [[ -d $(trixie_artefact) ]] || want debootstrap debootstrap
        [[ -d $(kubernetes_artefact) && -d $(pause_artefact) ]] || want go golang-go
        ldconfig -p | grep libseccomp.so.2 >/dev/null || missing+=(libseccomp2)
        ;;
      tools)
        want go golang-go
        want buildah buildah
        ;;
    esac
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  command -v apt-get >/dev/null || die "needs ${missing[*]}, and there is no apt-get to install them: install them by hand"
  began=$(now_ms)
  log=$BED_DIR/apt.log
  say packages "installing ${missing[*]}"
  apt_fresh
  if ! DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends \
    "${missing[@]}" >"$log" 2>&1 9>&- 6>&-; then
    tail -n 10 "$log" | sed 's/^/    apt-get: /' >&2
    die "apt-get could not install ${missing[*]}: install them by hand (log: $log)"
  fi
  say packages "installed (${missing[*]}: $(seconds_since "$began"))"
}

# apt_fresh: the package lists, when they are missing or older than a day (old lists name files that are gone).
apt_fresh() {
  local log=$BED_DIR/apt-update.log
  if [[ -n $(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null) ]]; then return 0; fi
  apt-get -o DPkg::Lock::Timeout=120 update >"$log" 2>&1 9>&- 6>&- || {
    tail -n 5 "$log" | sed 's/^/    apt-get: /' >&2
    die "apt-get update failed: check the machine's apt sources and network (log: $log)"
  }
}

# go_ready: Go is there and new enough for what it has to build.
go_ready() {
  local has
  command -v go >/dev/null || die "needs Go $GO_MINIMUM or later to build Kubernetes: install it"
  has=$(go env GOVERSION)
  has=${has#go}
  if [[ $(printf '%s\n' "$GO_MINIMUM" "$has" | sort -V | head -n 1) != "$GO_MINIMUM" ]]; then
    die "needs Go $GO_MINIMUM or later to build Kubernetes, and finds $has ($(command -v go)): put a later one first in PATH"
  fi
}
