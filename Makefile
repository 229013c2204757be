# make quickstart   build .venv and train recipes/quickstart.yaml
# make test         everything that runs without a GPU; make check is its fast part
# make test-gpu     ten minutes on a machine with GPUs: each placement and weight transfer, two steps
# PLATFORM=cpu|gpu  overrides what `nvidia-smi -L` says; PYTHON=... names the interpreter to build with

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: .venv quickstart test test-gpu check lock-cpu lock-gpu clean

PLATFORM ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
IS_SUPPORTED := import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '$(IS_SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

LOCK := requirements/$(PLATFORM).lock
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export DS_BUILD_OPS := 0

.venv: .venv/.podium

# A new lock makes a new environment. torch comes first and alone: where a plain install does not find the CPU wheel,
# PyTorch's own CPU index has it.
.venv/.locked-$(PLATFORM): $(LOCK)
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(IS_SUPPORTED)' || { echo 'podium needs Python 3.11 or 3.12: install one, or name it with make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@echo 'building .venv from $(LOCK) with $(PYTHON): a few minutes'
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --quiet --no-deps "$$(grep '^torch==' $(LOCK))" || { [ $(PLATFORM) = cpu ] && \
		$(PIP) install --quiet --no-deps --extra-index-url $(TORCH_CPU_INDEX) "$$(grep '^torch==' $(LOCK))"; }
	@$(PIP) install --quiet --no-deps -r $(LOCK)
	@touch $@

.venv/.podium: .venv/.locked-$(PLATFORM) pyproject.toml
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

quickstart: .venv
	$(BIN)/podium train recipes/quickstart.yaml

check: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow and not e2e and not gpu"

# The trainers that our rewards can serve, each in an environment of its own.
.venv/.peers: tests/peers/environments.py .venv/.podium
	@$(BIN)/python -m tests.peers.environments .venv/peers
	@touch $@

test: check .venv/.peers
	PODIUM_PEERS=.venv/peers $(BIN)/pytest -m "slow and not e2e and not gpu"
	$(BIN)/pytest -m "e2e and not gpu"

test-gpu: .venv
	$(BIN)/pytest -m gpu tests/gpu

# pip (of .venv) resolves, nothing is installed. The GPU lock is made on Linux x86-64, with a GPU or without.
RESOLVE = $(PIP) install --quiet --dry-run --ignore-installed --report .venv/$*.json ".[$*,dev]" "$$(grep '^torch==' requirements/$*.lock)"
lock-cpu lock-gpu: lock-%:
	$(RESOLVE) || { [ $* = cpu ] && $(RESOLVE) --extra-index-url $(TORCH_CPU_INDEX); }
	$(BIN)/python requirements/lock.py $* .venv/$*.json > requirements/$*.lock.new
	cmp -s requirements/$*.lock.new requirements/$*.lock || cp requirements/$*.lock.new requirements/$*.lock
	rm requirements/$*.lock.new

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
