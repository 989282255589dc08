# The commands for developers. They install or build everything except cargo, go, make and a C compiler.

CLUSTER := cargo run --package curfew-cluster --
# KUBERNETES=1.33 chooses the minor of the cluster, and IP_FAMILY=IPv6 its addresses; without them, they are the defaults.
UP = $(CLUSTER) up $(if $(KUBERNETES),--kubernetes=$(KUBERNETES)) $(if $(IP_FAMILY),--ip-family=$(IP_FAMILY))
# An end-to-end test mostly waits for a deadline, so more tests run at the same time than there are processors.
# The tests themselves use no more slots than this (tests/e2e/src/namespace.rs).
SLOTS := 8
RULE := manifests/components/monitoring/rules.yaml
# The benchmarks of criterion.
GROWING := --package curfew-core --package curfew-agent --package curfew-webhook
GROWTH := --bench evaluation --bench schedule --bench store --bench review

# Properties use the same cases in every run, unless the environment sets another seed (.cargo/config.toml).
SEED = $(or $(PROPTEST_RNG_SEED),$(shell sed -n 's/^PROPTEST_RNG_SEED = "\(.*\)"/\1/p' .cargo/config.toml))

.PHONY: help cluster bare demo test compat flaky torture disasters upgrade bench growth fuzz status down crd metrics rules release deny cargo

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

cluster: cargo ## Start a real two-node Kubernetes with Curfew deployed; does nothing if it is up to date; KUBERNETES=1.33 chooses the version, IP_FAMILY=IPv6 an IPv6-only network
	$(UP)

bare: cargo ## Start the cluster without Curfew
	$(UP) --bare

demo: cluster ## Show Curfew at work, from an exec to the eviction
	cargo run --quiet --package curfew-e2e --bin curfew-demo

test: cargo ## Run the unit tests, then the end-to-end tests on the cluster, and a smoke of the benchmarks
	$(CLUSTER) tools
	@echo "properties run with PROPTEST_RNG_SEED=$(SEED)"
	cargo test --workspace --exclude curfew-e2e
	$(MAKE) cluster
	cargo test --package curfew-e2e -- --test-threads=$(SLOTS)
	cargo run --package curfew-bench -- smoke

compat: cargo ## Run the end-to-end tests on each supported version of Kubernetes, and write docs/install.md; takes hours; ARGS="--only 1.33", "--ip-family IPv6 --only 1.36"
	cargo run --quiet --package curfew-compat -- $(ARGS)

flaky: cargo ## Run the unit tests many times on a busy machine, and name those that fail by chance; ARGS="--rounds 50 curfew-agent"
	cargo run --quiet --package curfew-flaky -- $(ARGS)

torture: cluster ## Kill parts of Curfew at random while clients exec, and report what was lost; ARGS="--seed 7 --kills 50 --execs 200", "--legacy"
	cargo run --package curfew-e2e --bin curfew-torture -- $(ARGS)

disasters: cluster ## Remove or damage parts of the cluster, and judge the result; ARGS="--only outage,store-deleted", --list
	cargo run --package curfew-e2e --bin curfew-disasters -- $(ARGS)

upgrade: bare ## Replace an older Curfew by this one while clients exec, and report what was denied or lost; ARGS="--from COMMIT --back --chart"
	cargo run --package curfew-e2e --bin curfew-upgrade -- $(ARGS)

bench: cluster ## Measure what Curfew costs, and compare with the targets, in 20 minutes; ARGS=all, smoke, "recording --seconds 120", help
	$(if $(ARGS),,cargo bench --no-run $(GROWING) $(GROWTH))
	cargo run --profile bench --package curfew-bench -- $(ARGS)

growth: cargo ## Measure how schedule, store, policies and reviews grow, without a cluster; ARGS="--bench store"
	cargo bench $(GROWING) $(or $(ARGS),$(GROWTH))

fuzz: cargo ## Search for counterexamples at random: ARGS="--cases 1000000 properties", or "--seconds 600 review" (needs nightly and cargo-fuzz)
	cargo run --quiet --package curfew-fuzz-targets -- $(ARGS)

release: cargo ## Make the artifacts of the commit HEAD in target/release-VERSION: VERSION=0.2.0, ARGS="--plugins FOLDER"
	cargo run --quiet --package curfew-release -- build --version "$(VERSION)" $(ARGS)

deny: cargo ## Check licences, sources and duplicates of all crates; ARGS=advisories checks against RustSec, from the internet
	cargo run --quiet --package curfew-release -- deny $(ARGS)

status: cargo ## Show what is running
	$(CLUSTER) status

down: cargo ## Remove the cluster and leave the machine as it was
	$(CLUSTER) down

crd: cargo ## Generate manifests/base/crd.yaml from the types
	cargo run --quiet --package curfew-crd --example crd >manifests/base/crd.yaml.new
	mv manifests/base/crd.yaml.new manifests/base/crd.yaml

metrics: cargo ## Generate docs/metrics.md from the code
	cargo run --quiet --package curfew-agent --example metrics >docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md

rules: ## Generate the PrometheusRule from dashboards/rules/curfew.yaml
	sed '/^spec:/q' $(RULE) >$(RULE).new
	sed -e '1,/^groups:/{/^groups:/!d}' -e 's/^\(.\)/  \1/' dashboards/rules/curfew.yaml >>$(RULE).new
	mv $(RULE).new $(RULE)

cargo:
	@command -v cargo >/dev/null || { echo "cargo is not in PATH: install Rust, for example with rustup" >&2; exit 1; }
