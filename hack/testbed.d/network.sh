# shellcheck shell=bash
# The network of nodes and pods. Everything is on loopback: the node has an address of its own on the loopback
# interface, and pods use the host's network, so brokers are 127.0.0.1 for all. A pod network would be made and
# undone here, beside the address: a bridge configuration in network_cni, its interfaces and rules in up and down.

network_up() {
  network_has_address || quiet ip address add "$NODE_IP/32" dev lo label lo:spillway ||
    die "could not give the loopback interface the node's address $NODE_IP"
}

network_down() {
  ! network_has_address || quiet ip address del "$NODE_IP/32" dev lo ||
    die "could not take the node's address $NODE_IP from the loopback interface"
}

network_has_address() { [[ -n $(ip -o address show dev lo to "$NODE_IP/32") ]]; }

# network_cni DIR: containerd calls the node's network ready when it finds a configuration. Host-network pods never
# run the plugin that it names.
network_cni() {
  mkdir -p "$1"
  cat >"$1/10-loopback.conf" <<'JSON'
{"cniVersion": "0.4.0", "name": "loopback", "type": "loopback"}
JSON
}
