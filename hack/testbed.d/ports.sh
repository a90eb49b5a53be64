# shellcheck shell=bash disable=SC2034
# Every port that the test bed listens on, all on loopback. They lie below the range that the kernel hands out to
# outgoing connections (32768 and up), so nothing takes one by accident. Move all of them with
# SPILLWAY_TESTBED_PORT_BASE, or one of them by the variable that names it.

: "${SPILLWAY_TESTBED_PORT_BASE:=21900}"

PORT_KUBE_APISERVER=${SPILLWAY_TESTBED_PORT_KUBE_APISERVER:-$((SPILLWAY_TESTBED_PORT_BASE + 0))}
PORT_ETCD_CLIENT=${SPILLWAY_TESTBED_PORT_ETCD_CLIENT:-$((SPILLWAY_TESTBED_PORT_BASE + 1))}
PORT_ETCD_PEER=${SPILLWAY_TESTBED_PORT_ETCD_PEER:-$((SPILLWAY_TESTBED_PORT_BASE + 2))}
PORT_KUBE_CONTROLLER_MANAGER=${SPILLWAY_TESTBED_PORT_KUBE_CONTROLLER_MANAGER:-$((SPILLWAY_TESTBED_PORT_BASE + 3))}
PORT_KUBE_SCHEDULER=${SPILLWAY_TESTBED_PORT_KUBE_SCHEDULER:-$((SPILLWAY_TESTBED_PORT_BASE + 4))}
PORT_KUBELET=${SPILLWAY_TESTBED_PORT_KUBELET:-$((SPILLWAY_TESTBED_PORT_BASE + 5))}
PORT_KUBELET_HEALTHZ=${SPILLWAY_TESTBED_PORT_KUBELET_HEALTHZ:-$((SPILLWAY_TESTBED_PORT_BASE + 6))}

PORT_RABBITMQ_AMQP=${SPILLWAY_TESTBED_PORT_RABBITMQ_AMQP:-$((SPILLWAY_TESTBED_PORT_BASE + 20))}
PORT_RABBITMQ_MANAGEMENT=${SPILLWAY_TESTBED_PORT_RABBITMQ_MANAGEMENT:-$((SPILLWAY_TESTBED_PORT_BASE + 21))}
PORT_RABBITMQ_PROMETHEUS=${SPILLWAY_TESTBED_PORT_RABBITMQ_PROMETHEUS:-$((SPILLWAY_TESTBED_PORT_BASE + 22))}
PORT_RABBITMQ_DISTRIBUTION=${SPILLWAY_TESTBED_PORT_RABBITMQ_DISTRIBUTION:-$((SPILLWAY_TESTBED_PORT_BASE + 23))}
PORT_RABBITMQ_EPMD=${SPILLWAY_TESTBED_PORT_RABBITMQ_EPMD:-$((SPILLWAY_TESTBED_PORT_BASE + 24))}

# Broker N (1, 2 or 3) listens on PORT_KAFKA + 10·(N - 1) and the four ports after it:
# PLAINTEXT, SASL_PLAINTEXT, SASL_SSL, SSL with client certificates, controller.
PORT_KAFKA=${SPILLWAY_TESTBED_PORT_KAFKA:-$((SPILLWAY_TESTBED_PORT_BASE + 30))}

# The node's own address. A kubelet refuses 127.0.0.1 as a node address, so `up` gives the loopback interface this
# one (reserved for documentation, routed nowhere) and `down` takes it away.
NODE_IP=${SPILLWAY_TESTBED_NODE_IP:-198.51.100.$((SPILLWAY_TESTBED_PORT_BASE / 100 % 250 + 1))}

# ports_list: one line each, fit for `source`.
ports_list() {
  local name
  for name in "${!PORT_@}" NODE_IP; do echo "$name=${!name}"; done
}

# A bed that exists keeps the ports that it was started with, for every command. `up` compares.
PORTS_ASKED=$(ports_list)
PORTS_EXPLICIT=$(compgen -e | grep -E '^SPILLWAY_TESTBED_(PORT|NODE_IP)' || true)
if [[ -s $RUN/ports ]]; then
  # shellcheck source=/dev/null
  source "$RUN/ports"
fi
