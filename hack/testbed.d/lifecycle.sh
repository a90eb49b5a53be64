# shellcheck shell=bash
# up, down, start, stop, kill, clean: what changes the bed. Of up, down and clean one at a time, of the others one for each
# part; each part of an `up` is a process of its own, so that parts come up side by side and one that fails takes no other
# with it.

ALL_PARTS=(kubernetes kafka rabbitmq)

# given PART: the caller named a broker or a cluster of his own, in the variable that this prints.
given() {
  case $1 in
    kubernetes) [[ -n ${KUBECONFIG:-} && $KUBECONFIG != "$ADMIN_KUBECONFIG" ]] && echo KUBECONFIG ;;
    kafka)
      [[ -n ${SPILLWAY_TEST_KAFKA:-} && $SPILLWAY_TEST_KAFKA != "$(kafka_bootstrap 0 1)" &&
        $SPILLWAY_TEST_KAFKA != "$(kafka_bootstrap 0 3)" ]] && echo SPILLWAY_TEST_KAFKA
      ;;
    rabbitmq) [[ -n ${SPILLWAY_TEST_RABBITMQ:-} && $SPILLWAY_TEST_RABBITMQ != "$(rabbitmq_url)" ]] && echo SPILLWAY_TEST_RABBITMQ ;;
    *) false ;;
  esac
}

bed_up() {
  local part variable parts=() pids=() failed=() i
  [[ $# -gt 0 ]] || set -- "${ALL_PARTS[@]}"
  for part in "$@"; do
    case $part in
      kubernetes | kafka | rabbitmq | tools) ;;
      *) die "there is no part '$part': kubernetes, kafka, rabbitmq, tools" ;;
    esac
    if variable=$(given "$part"); then
      say "$part" "not started: $variable names another one"
    else
      parts+=("$part")
    fi
  done
  [[ ${#parts[@]} -gt 0 ]] || return 0
  need_root
  lock 2
  folder_ready "$RUN"
  # After a reboot nothing runs any more, and mounts are gone: that is down, only untidy.
  if [[ -e $RUN/boot-id && $(<"$RUN/boot-id") != "$(</proc/sys/kernel/random/boot_id)" ]]; then bed_wipe; fi
  if [[ -s $RUN/ports && -n $PORTS_EXPLICIT && $(<"$RUN/ports") != "$PORTS_ASKED" ]]; then
    ! bed_runs || die "the bed is up on other ports than the environment asks for: run down first, or unset $(xargs <<<"$PORTS_EXPLICIT")"
    bed_wipe
    exec "$BED_SELF" up "$@"
  fi
  folder_ready "$RUN"
  write_file "$RUN/boot-id" </proc/sys/kernel/random/boot_id
  ports_list | write_file "$RUN/ports"
  mkdir -p "$BED_DIR/beds"
  echo "$RUN" >"$BED_DIR/beds/$BED_ID"
  work_end
  packages_ready "${parts[@]}"
  trap up_interrupted INT TERM
  for part in "${parts[@]}"; do
    "$BED_SELF" part-up "$part" 9>&- &
    pids+=($!)
  done
  for i in "${!pids[@]}"; do
    wait "${pids[$i]}" || failed+=("${parts[$i]}")
  done
  trap - INT TERM
  work_end
  [[ ${#failed[@]} -eq 0 ]] || die "${failed[*]} did not come up (see above)"
  say testbed "up: ${parts[*]}"
}

# up_interrupted: its own subshell, so that bash does not report each process that it ends.
up_interrupted() {
  (work_end) || die "interrupted, and not everything could be ended: run down"
  wait 2>/dev/null
  die "interrupted: run up again to go on, or down to tidy up"
}

# bed_runs: any process of it.
bed_runs() {
  local dir
  for dir in "$RUN"/units/*/; do
    if [[ -d $dir ]] && unit_runs "$(basename "$dir")"; then return 0; fi
  done
  return 1
}

# The processes of an `up` itself (builds, downloads) have a control group too: none outlives its `up` for long.
work_end() { cgroup_end "$(cgroup_root)/work"; }

part_up() {
  local group
  group=$(cgroup_root)/work
  mkdir -p "$group"
  echo $$ >"$group/cgroup.procs"
  "$1_part_up"
  tools_link "$1"
  [[ $1 == tools ]] || touch "$RUN/up-$1"
  say "$1" "ready"
}

# bed_wipe: ends every process, then removes what they left. Leaves the artefacts.
bed_wipe() {
  local groups
  mapfile -t groups < <(cgroup_dirs "$CGROUP_NAME")
  cgroup_end "${groups[@]}"
  node_clean
  network_down
  rm -rf --one-file-system "$RUN" "$MEMORY"
  rm -f "$BED_DIR/beds/$BED_ID"
}

bed_down() {
  need_root
  lock 180
  bed_wipe
  say testbed "down"
}

bed_clean() {
  need_root
  lock 2
  bed_wipe
  local other
  for other in "$BED_DIR"/beds/*; do
    [[ ! -e $other ]] || die "another bed uses these artefacts: SPILLWAY_TESTBED_RUN=$(<"$other") hack/testbed down"
  done
  rm -rf --one-file-system "$BED_DIR"
  say testbed "clean: $BED_DIR is gone"
}

# bed_act start|stop|kill NAME: NAME is a part, or one of its processes.
bed_act() {
  local action=$1 units=() unit reversed=()
  [[ $# -eq 2 ]] || die "usage: $action PART"
  need_root
  lock_part 60 "$(unit_known "$2" && cat "$RUN/units/$2/part" || echo "$2")"
  if unit_known "$2"; then
    units=("$2")
  else
    mapfile -t units < <(units_of "$2")
  fi
  [[ ${#units[@]} -gt 0 ]] || die "there is no '$2' in this bed: hack/testbed status shows what there is"
  case $action in
    start)
      for unit in "${units[@]}"; do
        unit_begin "$unit"
        # Brokers wait for each other; Kubernetes' processes need the one before them.
        [[ $unit == kafka-* || $unit == rabbitmq-* ]] || unit_await "$unit"
      done
      for unit in "${units[@]}"; do
        [[ $unit != kafka-* && $unit != rabbitmq-* ]] || unit_await "$unit"
      done
      ;;
    stop)
      for unit in "${units[@]}"; do reversed=("$unit" "${reversed[@]}"); done
      for unit in "${reversed[@]}"; do unit_stop "$unit"; done
      ;;
    kill)
      local running=0
      for unit in "${units[@]}"; do ! unit_runs "$unit" || running=1; done
      ((running)) || die "$2 does not run"
      for unit in "${units[@]}"; do unit_kill "$unit"; done
      ;;
  esac
  case $action in
    start) say "$2" "ready" ;;
    stop) say "$2" "stopped" ;;
    kill) say "$2" "killed" ;;
  esac
}

# unit_begin, unit_await, unit_answers UNIT: each kind of unit knows how it starts, when it is ready, and how to ask.
unit_begin() {
  ! unit_runs "$1" || return 0
  case $1 in
    kafka-*) kafka_unit_start "$(<"$RUN/units/$1/part")" "$1" ;;
    rabbitmq | rabbitmq-*) rabbitmq_unit_start "$(<"$RUN/units/$1/part")" "$1" ;;
    *)
      network_up
      kubernetes_unit_start "$1"
      ;;
  esac
}

unit_await() {
  case $1 in
    kafka-*) kafka_unit_ready "$1" ;;
    rabbitmq | rabbitmq-*) rabbitmq_unit_ready "$1" ;;
    *) kubernetes_unit_ready "$1" ;;
  esac
}

# extra_arguments COMMAND NAME PORT [--nodes 3]: sets name, port and nodes of the caller.
extra_arguments() {
  local usage="usage: $1 NAME PORT [--nodes 3]"
  [[ $# -eq 3 || ($# -eq 5 && $4 == --nodes) ]] || die "$usage"
  name=$2 port=$3 nodes=${5:-1}
  [[ $name =~ ^[a-z][a-z0-9-]{0,30}$ ]] || die "the name '$name' must be lower-case letters, digits and '-', and begin with a letter"
  [[ $port =~ ^[0-9]{1,5}$ ]] || die "'$port' is no port number"
  ((port > 0 && port < 65500)) || die "'$port' is no port number"
  [[ $nodes == 1 || $nodes == 3 ]] || die "--nodes is '$nodes': it can be 1 or 3"
}

# extra_units PART NODES: sets the caller's units: PART itself, or PART-1 to PART-3.
extra_units() {
  local unit owner there
  units=("$1")
  (($2 == 1)) || units=("$1"-{1..3})
  mapfile -t there < <(units_of "$1")
  ((${#there[@]} == 0 || ${#there[@]} == ${#units[@]})) ||
    die "$1 already exists with ${#there[@]} process(es): choose another name"
  for unit in "${units[@]}"; do
    owner=$(cat "$RUN/units/$unit/part" 2>/dev/null || echo "$1")
    [[ $owner == "$1" ]] || die "there is a $unit already, and it belongs to $owner: choose another name"
  done
}
