# What a newcomer runs. `make help` lists the targets.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=
# Processes that tests run in; 0 for this one alone, as a debugger needs it.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 8 ? cores : 8)))

.DEFAULT_GOAL := help
.PHONY: help demo serve test lint protos twins bench load zoo clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Start a server, stream outcomes, predict, kill it and restart it.
	$(BIN)/vzero demo $(ARGS)

serve: $(VENV)/.demo ## Serve on 127.0.0.1:50051, data in vzero-data/.
	$(BIN)/vzero serve $(ARGS)

test: $(VENV)/.dev ## Run all tests (or ARGS="tests/engine -k window"; ARGS="-m 'not long'").
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## Check style, types, import layers, the contract and generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/protos.py --lint
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/protos.py --check
	$(BIN)/python tools/unasync.py --check

protos: $(VENV)/.dev ## Generate client/vzero/v1 from protos/.
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/protos.py

twins: $(VENV)/.dev ## Generate the blocking client from the asyncio client.
	$(BIN)/python tools/unasync.py

BENCHMARKS = head ceiling precision latency served_vs_bare stateless_reference many_policies updates \
  overload restart decisions

bench: $(VENV)/.dev ## Measure everything against references in the same run (half an hour).
	$(foreach name,$(BENCHMARKS),$(BIN)/python -m benchmarks.$(name) $(ARGS) &&) true

load: $(VENV)/.dev ## Run trainers and routers against a local server.
	$(BIN)/python -m load_tests $(ARGS)

zoo: $(VENV)/.dev ## Train the policy zoo again and rewrite datasets/policy_zoo.parquet.
	$(BIN)/python -m research.policy_zoo.build --out datasets/policy_zoo.parquet $(ARGS)

clean: ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# One environment. The stamps record which extras are installed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing vzero[demo] into $(VENV) ..."
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing vzero[dev] into $(VENV) ..."
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo
