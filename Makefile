# What people run here. Everything but cargo, go, make and a C compiler is installed or built on the way.

CLUSTER := cargo run --package curfew-cluster --
# Most of an end-to-end test is waiting for a deadline, so more of them run at a time than there are processors;
# the tests themselves take no more places than this (tests/e2e/src/namespace.rs).
SLOTS := 6
RULE := manifests/components/monitoring/rules.yaml

# Properties try the same cases in every run, unless the environment names another seed (.cargo/config.toml).
SEED = $(or $(PROPTEST_RNG_SEED),$(shell sed -n 's/^PROPTEST_RNG_SEED = "\(.*\)"/\1/p' .cargo/config.toml))

.PHONY: help cluster bare demo test flaky torture disasters bench fuzz status down crd metrics rules cargo

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

cluster: cargo ## A real two-node Kubernetes with Curfew deployed; does nothing where nothing is to be done
	$(CLUSTER) up

bare: cargo ## The same without Curfew
	$(CLUSTER) up --bare

demo: cluster ## Curfew at work, from an exec to the eviction
	cargo run --quiet --package curfew-e2e --bin curfew-demo

test: cargo ## Unit tests, then the end-to-end tests on the cluster
	$(CLUSTER) tools
	@echo "properties run with PROPTEST_RNG_SEED=$(SEED)"
	cargo test --workspace --exclude curfew-e2e
	$(MAKE) cluster
	cargo test --package curfew-e2e -- --test-threads=$(SLOTS)

flaky: cargo ## Run all unit tests again and again beside a load, and name those that fail by chance; ARGS="--rounds 50 curfew-agent"
	cargo run --quiet --package curfew-flaky -- $(ARGS)

torture: cluster ## Kill everything on the cluster at random, and reckon up; ARGS="--seed 7 --kills 50 --execs 200"
	cargo run --package curfew-e2e --bin curfew-torture -- $(ARGS)

disasters: cluster ## Take parts away, spoil them, and judge what comes of it; ARGS="--only outage,store-deleted", --list
	cargo run --package curfew-e2e --bin curfew-disasters -- $(ARGS)

bench: cluster ## Measure what Curfew costs, against its targets; ARGS="recording --seconds 120", restart, due, rotation, flood, plugin, scrape, connections
	cargo run --package curfew-bench -- $(ARGS)

fuzz: cargo ## Search for counterexamples at random: ARGS="--cases 1000000 properties", or "--seconds 600 review" (needs nightly and cargo-fuzz)
	cargo run --quiet --package curfew-fuzz-targets -- $(ARGS)

status: cargo ## What of the cluster runs
	$(CLUSTER) status

down: cargo ## Take the cluster away and leave the machine as it was
	$(CLUSTER) down

crd: cargo ## Write manifests/base/crd.yaml anew, from the types
	cargo run --quiet --package curfew-crd --example crd >manifests/base/crd.yaml.new
	mv manifests/base/crd.yaml.new manifests/base/crd.yaml

metrics: cargo ## Write docs/metrics.md anew, from the code
	cargo run --quiet --package curfew-agent --example metrics >docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md

rules: ## Write the PrometheusRule anew, from dashboards/rules/curfew.yaml
	sed '/^spec:/q' $(RULE) >$(RULE).new
	sed -e '1,/^groups:/{/^groups:/!d}' -e 's/^\(.\)/  \1/' dashboards/rules/curfew.yaml >>$(RULE).new
	mv $(RULE).new $(RULE)

cargo:
	@command -v cargo >/dev/null || { echo "cargo is not in PATH: install Rust, for example with rustup" >&2; exit 1; }
