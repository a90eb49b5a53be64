# shellcheck shell=bash
# Units: one unit is one process of the bed, with its log and its control group. A unit's folder is
# $RUN/units/NAME: `pid` (process id and start time, so that a recycled id is never taken for ours), `part`, `log`.

KUBERNETES_UNITS=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet)

# Where to put control groups that only track: the unified hierarchy if there is one, else any v1 hierarchy.
cgroup_root() {
  local root
  root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [[ -n $root ]] || root=$(awk '$3 == "cgroup" { print $2; exit }' /proc/mounts)
  [[ -n $root ]] || die "no cgroup file system is mounted: the test bed needs one (mount -t cgroup2 none /sys/fs/cgroup)"
  echo "$root/$CGROUP_NAME"
}

# cgroup_dirs NAME…: those that exist of the groups NAME, in every hierarchy.
cgroup_dirs() {
  local root name
  while read -r root; do
    for name in "$@"; do
      if [[ -d $root/$name ]]; then echo "$root/$name"; fi
    done
  done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts)
}

cgroup_pids() { find "$@" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un || true; }

# cgroup_end DIR…: SIGKILL to everything in the groups and below, until nothing is left; then the groups go.
cgroup_end() {
  local dirs=() dir pids end=$(($(now_ms) + 20000))
  for dir in "$@"; do [[ ! -d $dir ]] || dirs+=("$dir"); done
  [[ ${#dirs[@]} -gt 0 ]] || return 0
  while pids=$(cgroup_pids "${dirs[@]}") && [[ -n $pids ]]; do
    for dir in "${dirs[@]}"; do [[ ! -w $dir/cgroup.kill ]] || echo 1 >"$dir/cgroup.kill"; done
    # Version 1 has no cgroup.kill. A process may end between the listing and the signal.
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    (($(now_ms) < end)) || die "processes $(tr '\n' ' ' <<<"$pids")do not end: look at them with ps"
    sleep 0.02
  done
  wait_for 5 cgroup_removed "${dirs[@]}" || die "the control groups ${dirs[*]} cannot be removed"
}

# A group is busy for a moment after its last process ended.
cgroup_removed() {
  local dir
  for dir in "$@"; do
    [[ ! -d $dir ]] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || [[ ! -d $dir ]] || return 1
  done
}

start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  [[ ${stat:0:1} != [ZX] ]] || return 1
  cut -d' ' -f20 <<<"$stat"
}

# unit_pid UNIT: the process id if the unit runs.
unit_pid() {
  local pid began
  read -r pid began 2>/dev/null <"$RUN/units/$1/pid" || return 1
  [[ $(start_time "$pid") == "$began" ]] || return 1
  echo "$pid"
}

unit_runs() { unit_pid "$1" >/dev/null; }
unit_known() { [[ -d $RUN/units/$1 ]]; }

# unit_start PART UNIT PORT… -- COMMAND…: runs COMMAND detached, in a control group of its own, its output in the
# unit's log. PORTs are those that it will listen on.
unit_start() {
  local part=$1 unit=$2 dir=$RUN/units/$2 group ports=()
  shift 2
  while [[ $1 != -- ]]; do
    ports+=("$1")
    shift
  done
  shift
  group=$(cgroup_root)/$unit
  # What a killed process left running would hold ports and locks. Pods outlive their containerd, by design.
  [[ $unit == containerd ]] || cgroup_end "$group"
  ports_free "$unit" "${ports[@]}"
  mkdir -p "$dir" "$group"
  write_file "$dir/part" <<<"$part"
  rm -f "$dir/pid" "$dir/stopped"
  # shellcheck disable=SC2016
  setsid bash -c '
    set -euo pipefail
    stat=$(<"/proc/$$/stat")
    echo "$$ $(cut -d" " -f20 <<<"${stat##*) }")" >"$2/pid.new"
    mv "$2/pid.new" "$2/pid"
    echo $$ >"$1/cgroup.procs"
    exec "${@:3}"' unit "$group" "$dir" "$@" </dev/null >>"$dir/log" 2>&1 9>&- 6>&- &
  wait_for 10 test -e "$dir/pid" || die "could not start $unit: $(tail -n 1 "$dir/log")"
}

# unit_ready UNIT SECONDS COMMAND…: waits for COMMAND; a unit that ends, or is late, shows the end of its log.
unit_ready() {
  local unit=$1 seconds=$2 end=$(($(now_ms) + $2 * 1000)) why=''
  shift 2
  until "$@"; do
    if ! unit_runs "$unit"; then
      why="ended before it was ready"
    elif (($(now_ms) >= end)); then
      why="was not ready within $seconds s"
    fi
    if [[ -n $why ]]; then
      tail -n 25 "$RUN/units/$unit/log" | sed "s/^/    $unit: /" >&2
      die "$unit $why; its whole log: $RUN/units/$unit/log"
    fi
    sleep 0.1
  done
}

# unit_stop UNIT: asks the process to end, waits, then ends what is left of the unit.
unit_stop() {
  local pid
  if pid=$(unit_pid "$1"); then
    kill -TERM "$pid" 2>/dev/null || true
    wait_for 30 unit_gone "$1" || say "$1" "did not end within 30 s of SIGTERM: killed"
  fi
  cgroup_end "$(cgroup_root)/$1"
  [[ $1 != containerd ]] || pods_end
  touch "$RUN/units/$1/stopped"
}

unit_gone() { ! unit_runs "$1"; }

# unit_kill UNIT: a crash. Containerd's shims live through it, as they would.
unit_kill() {
  local pid
  pid=$(unit_pid "$1") || return 0
  if [[ $1 == containerd ]]; then
    kill -KILL "$pid"
    wait_for 10 unit_gone "$1"
  else
    cgroup_end "$(cgroup_root)/$1"
  fi
}

# units_of PART: its units, in the order of their start.
units_of() {
  local unit dir
  for unit in "${KUBERNETES_UNITS[@]}" rabbitmq; do
    if [[ $(cat "$RUN/units/$unit/part" 2>/dev/null) == "$1" ]]; then echo "$unit"; fi
  done
  for dir in "$RUN"/units/{kafka,rabbitmq}-*; do
    if [[ $(cat "$dir/part" 2>/dev/null) == "$1" ]]; then echo "${dir##*/}"; fi
  done
}

# unit_peers UNIT: how many units of its part run, itself included.
unit_peers() {
  local unit count=0
  while read -r unit; do
    ! unit_runs "$unit" || count=$((count + 1))
  done < <(units_of "$(<"$RUN/units/$1/part")")
  echo "$count"
}
