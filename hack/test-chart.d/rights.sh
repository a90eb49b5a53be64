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
  kubectl -n "$namespace" logs deployment/spillway --tail=-1 >"$scratch/log"
  if grep -i forbidden "$scratch/log"; then return 1; fi
}
