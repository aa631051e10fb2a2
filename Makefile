# SPDX-License-Identifier: Apache-2.0
# `make help` lists the verbs. Everything happens in .venv, made from the hashed locks by plain pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check -q
DATA   ?= ./data
CELL   ?= ./cluster
LISTEN ?= 127.0.0.1:9000
T      ?=

MEMBERS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml)))
SOURCES := $(wildcard libs/*/src services/*/src tools/*/src)
PROTOS  := $(sort $(wildcard proto/drystone/*/v1/*.proto))
RUNTIME := $(VENV)/.runtime-installed
DEV     := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help setup serve cluster check test test-golden test-faults test-compat test-linearizability test-scale test-cluster bench format format-check lint types layers unit tidy proto proto-check lock clean

help: ## List the targets
	@awk 'BEGIN{FS=":.*## "} /^##@/{printf "\n%s\n",substr($$0,5)} /^[a-z][a-z-]*:.*## /{printf "  %-20s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

##@ Use
setup: $(RUNTIME) ## Make .venv from the lock (nothing to do when up to date)

serve: $(RUNTIME) ## Start a store in ./data (DATA=, LISTEN=)
	@exec $(BIN)/drystone serve $(DATA) --listen $(LISTEN)

cluster: $(DEV) ## Start a cell of many processes on this machine in ./cluster (CELL=; needs Java 17, Maven once)
	@exec $(BIN)/python -m drystone_testing.cluster $(CELL)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/runtime.lock $(MEMBERS:%=%/pyproject.toml) | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/runtime.lock
	$(PIP) install --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

$(DEV): requirements/dev.lock $(RUNTIME)
	$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

##@ Gates
check: format-check lint types layers proto-check unit ## Everything a commit needs (< 3 min)

test: check ## check (with contract, model and S3 tests) and killed processes (< 15 min; T= narrows)
	$(BIN)/pytest -q tests/faults/test_fault_processes.py $(if $(T),-k "$(T)" || test $$? -eq 5)

test-golden: $(DEV) ## Data directories of every release are served, written to and repaired (< 5 min)
	$(BIN)/pytest -q tests/golden

test-faults: $(DEV) ## Processes killed, disks taken away, bytes flipped, system calls failing: short form (< 15 min)
	$(BIN)/pytest -q tests/faults $(if $(T),-k "$(T)")

test-compat: $(DEV) ## Real S3 clients, each in an environment of its own (< 15 min; fetches them)
	$(BIN)/pytest -q tests/compat $(if $(T),-k "$(T)")

unit: $(DEV) ## Unit and tidy tests, one process a core (T= narrows)
	$(BIN)/pytest -q -n auto --dist loadfile $(if $(T),-k "$(T)")

tidy: $(DEV) ## Names, lengths, licences, docstrings
	$(BIN)/pytest -q tests/tidy

format: $(DEV) ## Format the sources
	$(BIN)/ruff format
	$(BIN)/ruff check --select I --fix -q

format-check: $(DEV)
	$(BIN)/ruff format --check -q

lint: $(DEV) ## ruff
	$(BIN)/ruff check -q

types: $(DEV) ## mypy --strict
	$(BIN)/mypy $(SOURCES)

layers: $(DEV) ## import-linter: layers point down, core is pure
	$(BIN)/lint-imports --no-cache

test-linearizability: $(DEV) ## Histories of concurrent clients of a store and of a cell, judged, with kills (< 15 min; a cell needs Java 17)
	$(BIN)/pytest -q tests/linearizability $(if $(T),-k "$(T)")

test-cluster: $(DEV) ## The parts of a cluster on real servers: etcd, Cassandra (half an hour; T= narrows; Cassandra needs Java 17, Maven)
	$(BIN)/pytest -q tests/cluster $(if $(T),-k "$(T)")

test-scale: $(DEV) ## Large objects and many slow clients: memory stays bounded (< 15 min)
	$(BIN)/pytest -q tests/scale $(if $(T),-k "$(T)")

##@ Measure
bench: $(DEV) ## Drystone beside other stores (PEERS=, SECONDS=, ONLY=)
	$(BIN)/python bench/run.py $(if $(PEERS),--peers $(PEERS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only $(ONLY))

bench-cluster: $(DEV) ## A cell of many processes beside a store that is alone: CPU of each service, calls, latency (SECONDS=)
	$(BIN)/python bench/cluster.py $(if $(SECONDS),--seconds $(SECONDS))

##@ Wire contracts
proto: $(DEV) ## Regenerate libs/drystone-wire from proto/
	$(BIN)/python tools/proto.py

proto-check: $(DEV) ## Fail when the generated code is stale
	$(BIN)/python tools/proto.py --check

##@ Upkeep
lock: $(DEV) ## Recompile the locks (needs uv)
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --universal requirements/runtime.in -o requirements/runtime.lock
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --universal requirements/dev.in -o requirements/dev.lock

clean: ## Remove caches (keeps .venv and data)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
