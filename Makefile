# Journeyman: what can be done here. `make help` lists it.
SHELL := /bin/bash
# rustup puts cargo there; a shell opened before its installation does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# End-to-end tests spend their time waiting for processes, not computing.
export RUST_TEST_THREADS ?= 4

# Run and test share one build. With the tests' targets, because what their dependencies switch on
# in others (a feature of tokio, for one) would otherwise have half of them compiled twice.
BUILD := cargo build --workspace --all-targets --locked

.DEFAULT_GOAL := help
.PHONY: help run test screenshots conformance lint build release bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## run the sample pipeline on a server and two agents of its own (ONCE=1: end with its result)
	@echo "make run: build, start a server, install two agents, run the sample pipeline"
	@.ci/prepare
	@$(BUILD)
	@ONCE="$(ONCE)" KEEP="$(KEEP)" sample/run

test: ## run every test: unit tests, then real processes end to end
	@echo "make test: build everything, run the unit tests and the end-to-end tests"
	@.ci/prepare test
	@$(BUILD)
	@cargo test --workspace --locked --no-fail-fast

screenshots: ## take the pictures of the README again (docs/dashboard.png, docs/job.png); all are in target/browser
	@echo "make screenshots: build, use the pages in a browser, keep two of its pictures"
	@.ci/prepare test
	@$(BUILD)
	@cargo test -p journeyman-tests --locked --test browser people_work_in_a_browser
	@cp target/browser/dashboard.png target/browser/job.png docs/

conformance: ## run the jobs recorded from GoCD's agent (CASES=folder: others; ONLY=part of a name; KEEP=1; VECTORS=folder)
	@echo "make conformance: build, read and write every recorded message, run every recorded job"
	@.ci/prepare
	@$(BUILD)
	@status=0; \
	VECTORS="$(abspath $(VECTORS))" cargo test --workspace --locked -q --test vectors every_document -- --nocapture || status=1; \
	target/debug/conformance $(if $(ONLY),--only "$(ONLY)") $(if $(KEEP),--keep) $(CASES) || status=1; \
	exit $$status

lint: ## check the format and the lints, warnings are errors
	@echo "make lint: rustfmt and clippy, warnings are errors"
	@.ci/prepare lint
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

build: ## build all programs (debug)
	@.ci/prepare
	@$(BUILD)

release: ## build what is shipped: small, stripped, link-time optimised
	@.ci/prepare
	@cargo build --workspace --bins --locked --profile dist

bench: release ## measure the figures of the README with the shipped programs (ONLY=one of them)
	@.ci/prepare bench
	@target/dist/figures $(ONLY)

clean: ## remove everything that was built
	@cargo clean
