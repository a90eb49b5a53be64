#!/usr/bin/env bash
# Makes the virtual host and its user, which Spillway does not manage.
#
#   MANAGEMENT=http://localhost:15672 ADMIN=guest:guest PASSWORD=… ./set-up.sh [VHOST [USER]]
#
# The user may publish over REST, too: the tag management shows it its own virtual host and no other. With a private
# authority, set CURL_CA_BUNDLE to its certificate.
set -euo pipefail
: "${MANAGEMENT:=http://localhost:15672}" "${ADMIN:=guest:guest}" "${PASSWORD:?the password of the new user}"
vhost=${1:-production}
user=${2:-$vhost}

put() {
  curl --fail --silent --show-error --user "$ADMIN" --header 'content-type: application/json' \
    --request PUT "$MANAGEMENT/api/$1" --data "$2"
}

put "vhosts/$vhost" '{"default_queue_type": "quorum"}'
put "users/$user" "{\"password\": \"$PASSWORD\", \"tags\": \"management\"}"
put "permissions/$vhost/$user" '{"configure": "", "write": ".*", "read": ".*"}'
echo "virtual host $vhost is there; user $user may publish and consume in it, and declare nothing"
