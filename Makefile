# Spillway's front door. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash

.PHONY: help demo test test-fast fuzz test-simulate test-image coverage lint deny generate book image bed bed-down clean-bed bench bench-reaction bench-scaling bench-topology bench-policies

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: ## The Black Friday shop on real parts: a flood, the scale-up, the dead letters, a plot (FULL=1: 5,000 messages, too)
	@hack/demo

test: ## Everything: unit and property tests, then end-to-end tests on a real API server, Kafka and RabbitMQ
	@hack/test

test-fast: ## What needs no test bed: unit and property tests
	@hack/test --fast

fuzz: ## 10,000 random objects against one operator, on the test bed (FUZZ=300, FUZZ_SEED=1)
	@hack/testbed up tools kubernetes kafka rabbitmq
	@cargo build --quiet --bin spillway --example shop
	@eval "$$(hack/testbed env)" && FUZZ=$${FUZZ:-10000} cargo test --quiet --test e2e random_objects -- --nocapture

test-simulate: ## Every simulated workload, three seeds each, against the bounds in tests/simulate/bounds.json
	@cargo test --quiet --profile bench-system -p spillway-simulate

coverage: ## Which part of the code the unit tests run
	@hack/coverage

lint: ## Format check and clippy, warnings refused
	@cargo fmt --all --check
	@cargo clippy --all-targets --quiet -- -D warnings
	@cargo clippy -p spillway-simulate --test bounds --quiet -- -D warnings

deny: ## Licences, advisories and duplicates of all dependencies
	@hack/deny

generate: ## Write what is generated: crds/, the chart's copy and its table, docs/metrics.md, manifests/install.yaml
	@hack/generate

book: ## The documentation as a book, with mdBook (half a minute the first time): target/book/index.html
	@hack/book

image: ## Build the operator's image with docker, podman or buildah, whichever is there
	@hack/image operator

test-image: ## Build the operator's image, and test that it is what it promises, on the test bed
	@hack/image operator --out target/spillway-image.tar
	@hack/testbed up tools kubernetes kafka rabbitmq
	@eval "$$(hack/testbed env)" && hack/test-image target/spillway-image.tar

bed: ## Start the test bed (hack/testbed up) and say how to use it
	@hack/testbed up
	@echo 'Use it: eval "$$(hack/testbed env)"'

bed-down: ## Stop the test bed; what was built stays
	@hack/testbed down

clean-bed: ## Stop the test bed and take everything away that it installed into its folder
	@hack/testbed clean

bench: ## Benchmarks of the pure core (criterion)
	@cargo bench --bench scaling

bench-reaction: ## Seconds from a flood to the first patch and to full size, on the test bed
	@hack/bench-reaction

bench-scaling: ## bench-reaction, then what reading the lag of 1,000 groups costs (ONLY=sweep, ONLY=reaction)
	@hack/bench-scaling

bench-topology: ## Thousands of objects made, changed and restored beside the limit of broker and API server (SCALE=0.1, REPEAT=1, REST=30)
	@hack/bench-topology

bench-policies: ## What one more policy costs RabbitMQ at 100, 1,000 and 5,000 queues
	@hack/bench-policies
