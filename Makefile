# `make` lists what there is. Everything happens in .venv; nothing outside the checkout is changed.

PYTHON ?= python3
EXTRAS ?= test
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One torch thread per test worker (two workers with all threads each are slower than one), and no
# test may reach for the network.
OFFLINE := HF_HUB_OFFLINE=1 WANDB_MODE=offline
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow parity test-gpu bench bench-data bench-trainer bench-evaluate bench-gpu lint docs docs-serve clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## a virtual environment in .venv with the tested versions (again: a no-op)
	@echo "ready: $(BIN)/ldm"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "setup needs Python 3.11, 3.12 or 3.13; $(PYTHON) is:" >&2; \
		$(PYTHON) --version >&2; \
		echo "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setup: making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Python's venv module does not work. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; }
	@echo "setup: installing ldm[$(EXTRAS)] under constraints.txt (torch is 3 GB: some minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: setup ## a whole latent diffusion system, trained from nothing on this machine, and its pictures
	$(BIN)/ldm run recipe=demo

test: setup ## the tests, without the slow ones
	$(ONE_THREAD) $(OFFLINE) $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not gpu"

test-slow: setup ## the slow tests (whole recipes, wheels, ...)
	$(OFFLINE) $(BIN)/python -m pytest -q -m "slow and not gpu"

parity: setup ## how far our networks and samplers are from the reference's, as a table
	$(ONE_THREAD) $(OFFLINE) $(BIN)/python -m pytest -q --parity

test-gpu: setup ## the tests that need a CUDA device
	$(OFFLINE) $(BIN)/python -m pytest -q -m gpu

bench: setup ## measure the README's table on this machine's CPU
	$(OFFLINE) $(BIN)/python benchmarks/cpu.py

bench-data: setup ## measure the road of the data: reading, caching, preparing
	$(OFFLINE) $(BIN)/python benchmarks/data.py

bench-trainer: setup ## measure training: kills, pauses, memory, what the loop costs
	$(OFFLINE) $(BIN)/python benchmarks/trainer.py

bench-evaluate: setup ## measure the metrics of 50,000 pictures: time, memory, against others
	PYTHONPATH=. $(OFFLINE) $(BIN)/python benchmarks/evaluate.py  # torch-fidelity, too, has a package tests

bench-gpu: setup ## measure training on this machine's GPU
	$(OFFLINE) $(BIN)/python benchmarks/gpu.py

lint: setup ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## the handbook, built strictly into build/handbook (no network, some seconds)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "handbook: build/handbook/index.html (make docs-serve shows it with its search)"

docs-serve: setup ## the handbook at http://localhost:8000, built anew at each change
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --watch configs --watch ldm

clean: ## remove builds and caches; .venv and runs/ stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -print0 \
		| xargs -0 rm -rf
