# SPDX-License-Identifier: Apache-2.0
# `make help` says what there is. Everything that is downloaded or built lies below HIGHWATER_CACHE.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test check soak bench fuzz fmt

export HIGHWATER_CACHE ?= $(HOME)/.cache/highwater
export CARGO_TARGET_DIR ?= $(HIGHWATER_CACHE)/target
export PATH := $(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# A comma that is no separator of a function's arguments.
, := ,

TRANSPORT ?= embedded
SUITE ?= postgres
# What `make test` tests: `make test SCOPE='-p highwater-testbed'` is a part of it.
SCOPE ?= --workspace
# Tests at once in one binary: twice the cores, for tests with real servers wait more than they work, and no more than 8.
RUST_TEST_THREADS ?= $(shell cores=$$(nproc); echo $$((cores < 4 ? 2 * cores : 8)))
# Seconds of fuzzing for each target; seeds of a soak.
FUZZ_SECONDS ?= 60
SOAK_SEEDS ?= 5000000
SOAK_ROUNDS ?= 10

help: ## Show this help
	@echo 'make TARGET [NAME=VALUE…]'; echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo; echo '  HIGHWATER_CACHE=DIR       downloads and build output ($(HIGHWATER_CACHE))'
	@echo '  HIGHWATER_TESTBED=WHAT    process, container or auto: how test servers run'
	@echo '  HIGHWATER_KEEP=1          keep the directories of test servers'

setup: ## Install what is missing (Debian or Ubuntu, root or sudo)
	@scripts/setup.sh build java npm containers

demo: ## Capture a live Postgres and verify it; TRANSPORT=embedded|kafka, DEMO_ONCE=1 ends by itself
	@scripts/setup.sh build $(if $(filter kafka,$(TRANSPORT)),java)
	cargo build --quiet --release -p highwater-testbed -p highwater-cli
	"$(CARGO_TARGET_DIR)/release/highwater-testbed" fetch postgres $(if $(filter kafka,$(TRANSPORT)),kafka registry)
	@"$(CARGO_TARGET_DIR)/release/highwater" demo --transport $(TRANSPORT) $(if $(filter 1,$(DEMO_ONCE)),--once)

# Of the whole suite the programs are built with the tests, in one go: a `cargo build` of one package resolves other
# features of shared dependencies and would compile them, and all that stands on them, a second time. The tests of a
# part build the program that they need. The engine's mutations are in that build too: the simulation asks for them.
WHOLE := $(filter --workspace,$(SCOPE))
TEST_FEATURES := $(if $(WHOLE),--features highwater-cli/crash-points$(,)highwater-postgres/kafka)

test: setup ## Run the whole suite, real servers included
	@export RUST_TEST_THREADS=$(RUST_TEST_THREADS); status=0; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	$(call run,cargo $(if $(WHOLE),test $(SCOPE) $(TEST_FEATURES) --no-run --quiet,build -p highwater-testbed)); \
	[ $$status != 0 ] || { $(call run,"$(CARGO_TARGET_DIR)/debug/highwater-testbed" fetch); }; \
	[ $$status = 0 ] || { scripts/summary.sh "$$log" "$$status"; exit 1; }; \
	$(if $(WHOLE),$(program_of_make); )\
	$(call run,cargo test $(SCOPE) $(TEST_FEATURES) --no-fail-fast); \
	scripts/summary.sh "$$log" "$$status"

# A second name of the program under test: a build beside the tests, which replaces the first, changes nothing.
program_of_make = export HIGHWATER_BIN="$(CARGO_TARGET_DIR)/debug/highwater-of-make"; ln -f "$(CARGO_TARGET_DIR)/debug/highwater" "$$HIGHWATER_BIN"

# Runs a command of the suite: its output goes to the screen and to the log, its failure into the status.
run = echo "+ $(1)"; $(1) 2>&1 | tee -a "$$log" || status=$$?

check: ## The fast loop: format, clippy, unit and simulation tests
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins --quiet
	cargo test -p highwater-core -p highwater-simulation --quiet

soak: setup ## The long run: many more seeds and rounds (SOAK_SEEDS, SOAK_ROUNDS)
	HIGHWATER_SEEDS=$(SOAK_SEEDS) cargo test --release -p highwater-core -p highwater-simulation -- --nocapture
	HIGHWATER_KILL_ROUNDS=$(SOAK_ROUNDS) cargo test --release -p highwater-integration-tests
	HIGHWATER_POSTGRES_MAJORS=all cargo test --release -p highwater-postgres --test integration

bench: ## Measure; SUITE=postgres writes target/bench/postgres.json; PEER=debezium, CASES=a,b, ROWS=n, README=README.md
	@scripts/setup.sh build java
	cargo build --quiet --release -p highwater-testbed -p highwater-cli -p highwater-bench
	"$(CARGO_TARGET_DIR)/release/highwater-testbed" fetch
	$(if $(PEER),"$(CARGO_TARGET_DIR)/release/highwater-testbed" fetch $(PEER))
	"$(CARGO_TARGET_DIR)/release/highwater-bench" $(SUITE) $(BENCH_ARGS)

fuzz: ## Fuzz the parsers of foreign bytes, FUZZ_SECONDS each (a nightly toolchain is installed for it)
	@scripts/setup.sh build
	@rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for connector in connectors/*/fuzz; do (cd "$$connector/.."; for target in $$(cargo +nightly fuzz list); do \
	  echo "+ fuzz $$connector $$target"; cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done) || exit 1; done

fmt: ## Format all code
	cargo fmt --all
