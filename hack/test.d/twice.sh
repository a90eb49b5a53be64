# shellcheck shell=bash disable=SC2154 # hack/test sets LOG
# Second tries: for a test whose deadlines are for a machine that keeps up. It takes LOG, a file, and REPORT, lines for the end.

# More than so many are no accident.
SECOND_TRIES=3
# Those that passed only by themselves.
ALONE=()

# twice TARGETS -- ARGUMENTS…: a few that fail beside others get a second try, each by itself. It is told at the end, with
# what each said, and to SPILLWAY_TEST_NOTES (.ci/run), so that nobody takes a test that needs it for a good one.
twice() {
  local targets=() failed
  while [[ $1 != -- ]]; do targets+=(--test "$1"); shift; done
  cargo test --no-fail-fast "${targets[@]}" "$@" 2>&1 | tee "$LOG" && return
  mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$LOG" | sort -u)
  said "failed beside others"
  ((${#failed[@]} > 0)) || return
  if ((${#failed[@]} > SECOND_TRIES)); then
    REPORT+=("             ${#failed[@]} failed: too many for a second try")
    return 1
  fi
  printf '\n== once more, each by itself: %s\n' "${failed[*]}"
  if cargo test "${targets[@]}" -- --test-threads 1 --exact "${failed[@]}" 2>&1 | tee "$LOG"; then
    REPORT+=("             PASSED ONLY ALONE: ${failed[*]}")
    ALONE+=("${failed[@]}")
    [[ -z ${SPILLWAY_TEST_NOTES-} ]] || printf 'passed only alone: %s\n' "${failed[@]}" >>"$SPILLWAY_TEST_NOTES"
    return
  fi
  said "failed alone, too"
  return 1
}

# The first words of each test that panicked, for the report at the end: a log of thousands of lines hides them.
said() {
  local line count=0
  while read -r line; do
    REPORT+=("             $1: ${line:0:400}")
    ((++count < 20)) || break
  done < <(sed -n "/^thread '.*' .*panicked at /{s/^thread '\([^']*\)' .*panicked at \(.*\):\$/\1, \2/;N;s/\n/: /p}" "$LOG")
}
