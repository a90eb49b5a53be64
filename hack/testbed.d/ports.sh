# shellcheck shell=bash disable=SC2034
# Every port that the test bed listens on, all on loopback. They lie below the range that the kernel hands out to
# outgoing connections (32768 and up), so nothing takes one by accident. Move all of them with
# SPILLWAY_TESTBED_PORT_BASE, or one of them by the variable that names it.

: "${SPILLWAY_TESTBED_PORT_BASE:=21900}"
base=$SPILLWAY_TESTBED_PORT_BASE

PORT_KUBE_APISERVER=${SPILLWAY_TESTBED_PORT_KUBE_APISERVER:-$((base + 0))}
PORT_ETCD_CLIENT=${SPILLWAY_TESTBED_PORT_ETCD_CLIENT:-$((base + 1))}
PORT_ETCD_PEER=${SPILLWAY_TESTBED_PORT_ETCD_PEER:-$((base + 2))}
PORT_KUBE_CONTROLLER_MANAGER=${SPILLWAY_TESTBED_PORT_KUBE_CONTROLLER_MANAGER:-$((base + 3))}
PORT_KUBE_SCHEDULER=${SPILLWAY_TESTBED_PORT_KUBE_SCHEDULER:-$((base + 4))}
PORT_KUBELET=${SPILLWAY_TESTBED_PORT_KUBELET:-$((base + 5))}
PORT_KUBELET_HEALTHZ=${SPILLWAY_TESTBED_PORT_KUBELET_HEALTHZ:-$((base + 6))}

PORT_RABBITMQ_AMQP=${SPILLWAY_TESTBED_PORT_RABBITMQ_AMQP:-$((base + 20))}
PORT_RABBITMQ_MANAGEMENT=${SPILLWAY_TESTBED_PORT_RABBITMQ_MANAGEMENT:-$((base + 21))}
PORT_RABBITMQ_PROMETHEUS=${SPILLWAY_TESTBED_PORT_RABBITMQ_PROMETHEUS:-$((base + 22))}
PORT_RABBITMQ_DISTRIBUTION=${SPILLWAY_TESTBED_PORT_RABBITMQ_DISTRIBUTION:-$((base + 23))}
PORT_RABBITMQ_EPMD=${SPILLWAY_TESTBED_PORT_RABBITMQ_EPMD:-$((base + 24))}

# Broker N (1, 2 or 3) listens on PORT_KAFKA + 10·(N - 1) and the four ports after it:
# PLAINTEXT, SASL_PLAINTEXT, SASL_SSL, SSL with client certificates, controller.
PORT_KAFKA=${SPILLWAY_TESTBED_PORT_KAFKA:-$((base + 30))}

# The node's own address. A kubelet refuses 127.0.0.1 as a node address, so `up` gives the loopback interface this
# one (reserved for documentation, routed nowhere) and `down` takes it away.
NODE_IP=${SPILLWAY_TESTBED_NODE_IP:-198.51.100.$((base / 100 % 250 + 1))}
