# shellcheck shell=bash disable=SC2154 # namespace, scratch: hack/test-chart
# What the operator may do beside what it did, by the API server's audit log.

account=system:serviceaccount:$namespace:spillway

# What is granted, less what no request of its own can show.
granted() {
  kubectl get clusterroles,roles -A -l app.kubernetes.io/instance=spillway -o json | jq -r '
    .items[] | select(.metadata.name | test("-(view|edit|admin)$") | not) | .rules[] |
    [.apiGroups, .resources, .verbs] | combinations | "\(.[0])/\(.[1]) \(.[2])"' |
    # A server-side apply of a Deployment that is not there is one request, which needs both rights.
    grep -vxF 'apps/deployments create' | sort -u
}

# The requests between audit_begin and audit_end: from an installation to just before its end, when the rights go a
# moment before the pods do.
audit_begin() {
  if [[ -n ${SPILLWAY_TEST_AUDIT_LOG-} ]]; then stat -c %s "$SPILLWAY_TEST_AUDIT_LOG" >"$scratch/audit"; fi
}

audit_end() {
  [[ -e $scratch/audit ]] || return 0
  tail -c "+$(($(<"$scratch/audit") + 1))" "$SPILLWAY_TEST_AUDIT_LOG" |
    jq -c --arg account "$account" 'select(.user.username == $account)' >>"$scratch/requests"
  rm "$scratch/audit"
}

used() {
  jq -r '.objectRef as $o | "\($o.apiGroup // "")/\($o.resource)\(if $o.subresource then "/" + $o.subresource else "" end) \(.verb)"' "$scratch/requests" | sort -u
}

rights_are_exact() {
  if [[ -z ${SPILLWAY_TEST_AUDIT_LOG-} ]]; then
    logs_say_nothing_is_forbidden
    echo "note: no audit log here: only what was refused was looked for"
    return
  fi
  audit_end
  jq -r 'select(.responseStatus.code == 403) | "\(.verb) \(.requestURI)"' "$scratch/requests" | sort | uniq -c >"$scratch/forbidden"
  [[ ! -s $scratch/forbidden ]] || { echo "refused:"; cat "$scratch/forbidden"; return 1; }
  granted >"$scratch/granted"
  used >"$scratch/used"
  if ! grep -q ' watch$' "$scratch/used"; then
    echo "note: the audit log has no reads: the bed was started by an older hack/testbed"
    grep -E ' (create|update|patch|delete)$' "$scratch/granted" >"$scratch/writes"
    mv "$scratch/writes" "$scratch/granted"
  fi
  diff --label granted --label used -u "$scratch/granted" "$scratch/used"
  printf 'note: %d rights, %d requests, none refused\n' "$(wc -l <"$scratch/granted")" "$(wc -l <"$scratch/requests")"
}

logs_say_nothing_is_forbidden() {
  kubectl -n "$namespace" logs -l app.kubernetes.io/instance=spillway --tail=-1 >"$scratch/log"
  if grep -i forbidden "$scratch/log"; then return 1; fi
}

# people_may: what view, edit and admin let a person do in a namespace, asked of the API server as that person.
people_may() {
  local role
  for role in view edit admin; do
    a create rolebinding "person-$role" --clusterrole="$role" --user="person-$role"
  done
  # Roles are aggregated by a controller, a moment after they are there.
  local deadline=$((SECONDS + 30))
  until may admin delete brokers yes >/dev/null; do
    ((SECONDS < deadline)) || { echo "rights are not aggregated after 30 s"; return 1; }
    sleep 0.2
  done
  local kind verb
  for kind in topics exchanges queues bindings consumers; do
    may view list "$kind" yes
    for verb in create update patch delete; do
      may view "$verb" "$kind" no
      may edit "$verb" "$kind" yes
      may admin "$verb" "$kind" yes
    done
  done
  for role in view edit admin; do may "$role" list brokers yes; done
  for verb in create update patch delete; do
    may view "$verb" brokers no
    may edit "$verb" brokers no
    may admin "$verb" brokers yes
  done
}

# may ROLE VERB KIND yes|no
may() {
  local answer
  answer=$(a auth can-i "$2" "$3.spillway.dev" --as="person-$1" || true)
  [[ $answer == "$4" ]] || { echo "may $1 $2 $3? $answer, not $4"; return 1; }
}
