# shellcheck shell=bash disable=SC2034 # the other files read these names
# Folders, messages, the lock, and waiting: what every other file leans on.

BED_DIR=${SPILLWAY_TESTBED_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spillway-testbed}
RUN=${SPILLWAY_TESTBED_RUN:-$BED_DIR/run}
ARTEFACTS=$BED_DIR/artefacts
BED_ID=$(printf %s "$RUN" | sha256sum | cut -c1-8)
# Data that may be lost with the machine's memory; `down` deletes it like the rest.
MEMORY=/dev/shm/spillway-testbed-$BED_ID
# Every process of this bed lives in a control group below this name, so that none is missed or mistaken.
CGROUP_NAME=spillway-testbed-$BED_ID

now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo "${t:0:-3}"; }
export BED_START_MS=${BED_START_MS:-$(now_ms)}

# say WHO TEXT…: one line of progress, with the seconds since the command began.
say() {
  local ms=$(($(now_ms) - BED_START_MS)) who=$1
  shift
  printf '%4d.%d s  %-10s  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$who" "$*"
}

die() {
  printf 'testbed: %s\n' "$*" >&2
  exit 1
}

# quiet COMMAND…: what it prints is shown only if it fails.
quiet() {
  local output
  output=$("$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    return 1
  }
}

# write_file FILE: FILE is there with the whole of the standard input, or not at all.
write_file() {
  cat >"$1.new"
  mv "$1.new" "$1"
}

# seconds_since MS
seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

need_root() {
  [[ $EUID -eq 0 ]] || die "needs root (control groups, mounts, chroot): run it as root, or with sudo -E"
}

# folder_ready DIR: makes DIR our own, or stops when it holds what is not ours.
folder_ready() {
  local dir=$1
  [[ ${#RUN} -le 60 ]] || die "$RUN is too long for the sockets below it (60 characters at most): set SPILLWAY_TESTBED_DIR"
  if [[ -d $dir && ! -e $dir/.spillway-testbed && -n $(ls -A "$dir") ]]; then
    die "$dir exists and is not a test bed's: name another folder in SPILLWAY_TESTBED_DIR or SPILLWAY_TESTBED_RUN"
  fi
  mkdir -p "$dir"
  touch "$dir/.spillway-testbed"
}

# memory_has_room: 2 GiB in the memory file system, and 8 GiB of memory beside what runs.
memory_has_room() {
  local free
  free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || return 1
  ((free >= 2 << 20)) && (($(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo) >= 8 << 20))
}

# lock SECONDS: this command alone changes the bed. Ends by itself with this process: children close fd 9.
lock() {
  local file=$BED_DIR/locks/$BED_ID
  folder_ready "$BED_DIR"
  mkdir -p "$BED_DIR/locks"
  exec 9>>"$file"
  flock -w "$1" 9 || die "another hack/testbed command is at work on $RUN ($(lock_holders "$file")): wait for it, or end it first"
  echo $$ >"$file"
}

# lock_holders FILE: those that wrote down that they have the lock, or that of a part, and are still there.
lock_holders() {
  local file pids=()
  for file in "$1" "$1"-*; do
    [[ ! -s $file || ! -d /proc/$(<"$file") ]] || pids+=("process $(<"$file")")
  done
  (IFS=,; echo "${pids[*]:-a process that has just begun}")
}

# lock_part SECONDS PART: one command at a time changes a part, beside those that change other parts: whoever kills a broker
# in the middle of something cannot wait until somebody else's has started. Children close fd 6, too.
lock_part() {
  local file=$BED_DIR/locks/$BED_ID
  folder_ready "$BED_DIR"
  mkdir -p "$BED_DIR/locks"
  exec 9>>"$file" 6>>"$file-$2"
  flock -s -w "$1" 9 || die "another hack/testbed command is at work on $RUN ($(lock_holders "$file")): wait for it, or end it first"
  flock -w "$1" 6 || die "another hack/testbed command is at work on $2 (process $(<"$file-$2")): wait for it, or end it first"
  echo $$ >"$file-$2"
}

# wait_for SECONDS COMMAND…: asks until COMMAND succeeds. Fails when the time is over.
wait_for() {
  local end=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < end)) || return 1
    sleep 0.1
  done
}

# Ports that something listens on, if it is not one of ours: "who (pid N)", or nothing.
port_owner() {
  local line
  line=$(ss -ltnpH "sport = :$1" | head -n 1)
  [[ -n $line ]] || return 0
  if [[ $line =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]]; then
    echo "${BASH_REMATCH[1]} (process ${BASH_REMATCH[2]})"
  else
    echo "another process"
  fi
}

# ports_free UNIT PORT…
ports_free() {
  local unit=$1 port owner
  shift
  for port in "$@"; do
    owner=$(port_owner "$port")
    [[ -z $owner ]] || die "$unit needs port $port, which $owner holds: end that, or set SPILLWAY_TESTBED_PORT_BASE"
  done
}

# http_code URL [CURL ARGUMENT…]: the status code; 000 when nobody answers.
http_code() {
  local url=$1
  shift
  curl -s -o /dev/null -m 5 --noproxy '*' -w '%{http_code}' "$@" "$url" || true
}
