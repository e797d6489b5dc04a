# `make` alone lists what there is. Needs Python >= 3.11 (with venv), and nothing else.

PYTHON ?= python3
WORKERS ?= 2
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo quick test suite lint format drills soak bench bench-compare probes peer docs picture lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev.stamp ## .venv with everything to run, test and lint

demo: $(VENV)/.run.stamp ## capture a simulated market, kill it, prove the rest
	@$(BIN)/forebay demo

quick: export TIER := quick
quick: $(VENV)/.dev.stamp ## the inner loop: lint, types, most tests, small counts
	@$(MAKE) --no-print-directory --jobs 2 lint suite

test: $(VENV)/.dev.stamp ## lint, types, contracts, all tests but the long drills
	@$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(VENV)/.dev.stamp ## the tests of make test alone
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.dev.stamp ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev.stamp ## mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

drills: $(VENV)/.dev.stamp ## every drill, and many kills, one after the other
	$(BIN)/pytest -m drill

soak: export TIER := soak
soak: $(VENV)/.dev.stamp ## all tests with the large counts, for a night
	$(BIN)/pytest -m "not drill"

bench: $(VENV)/.bench.stamp ## peers beside us: build/bench.json (ONLY=append: one)
	$(BIN)/python -m tests.benchmarks $(addprefix --only ,$(ONLY))

bench-compare: $(VENV)/.bench.stamp ## our rows beside those of an earlier BASE=commit
	@exec $(BIN)/python -m tests.benchmarks.compare $(strip $(COMPARED))

COMPARED = $(addprefix --base ,$(BASE)) $(addprefix --only ,$(ONLY)) \
	$(addprefix --rounds ,$(ROUNDS)) $(addprefix --limit ,$(LIMIT))

probes: $(VENV)/.bench.stamp ## how our breaker and others behave where breakers go wrong
	$(BIN)/python -m tests.resilience_peers

peer: build/peer/.stamp ## build/peer: cryptofeed (AGPL) for make bench, apart

docs: $(VENV)/.dev.stamp ## the pages of docs/reference that are made from the code
	$(BIN)/python -m tests.support.reference_pages

picture: $(VENV)/.dev.stamp ## docs/images/demo.svg from a real run
	$(BIN)/python docs/picture.py

lock: ## make requirements/*.lock again (UPGRADE=--upgrade)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv, or make lock UV=/path/to/uv." >&2; exit 2; }
	$(COMPILE) --no-deps --group pyproject.toml:pip --output-file requirements/pip.lock
	$(COMPILE) pyproject.toml --group build --output-file requirements/run.lock
	$(COMPILE) pyproject.toml --group dev --constraint requirements/run.lock --output-file requirements/dev.lock
	$(COMPILE) --group pyproject.toml:bench --constraint requirements/dev.lock --output-file requirements/bench.lock

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" $(UPGRADE)

clean: ## remove .venv, caches and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so a changed lock or pyproject installs again.

$(VENV)/.python.stamp: requirements/pip.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Forebay needs Python 3.11 or newer, and $(PYTHON) is not that. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. Install its venv package (Debian and Ubuntu: apt install python3-venv) and run make again." >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "installing requirements/pip.lock; a minute or two the first time"
	@$(INSTALL) -r requirements/pip.lock
	@touch $@

$(VENV)/.run.stamp: $(VENV)/.python.stamp requirements/run.lock pyproject.toml
	@echo "installing requirements/run.lock; a minute or two the first time"
	@$(INSTALL) -r requirements/run.lock
	@$(INSTALL_FOREBAY)
	@touch $@

$(VENV)/.dev.stamp: $(VENV)/.python.stamp requirements/dev.lock pyproject.toml
	@echo "installing requirements/dev.lock; a minute or two the first time"
	@$(INSTALL) -r requirements/dev.lock
	@$(INSTALL_FOREBAY)
	@touch $(VENV)/.run.stamp $@

$(VENV)/.bench.stamp: $(VENV)/.dev.stamp requirements/bench.lock
	@echo "installing requirements/bench.lock; a minute or two the first time"
	@$(INSTALL) -r requirements/bench.lock
	@touch $@

# Measured, never imported: it has its own Python and no place in our locks.
build/peer/.stamp:
	@command -v $(PEER_PYTHON) >/dev/null || { echo "cryptofeed needs Python 3.13 or newer, and $(PEER_PYTHON) is not here: make peer PEER_PYTHON=/path/to/python3.13" >&2; exit 2; }
	$(PEER_PYTHON) -m venv --clear build/peer
	build/peer/bin/python -m pip install --quiet --disable-pip-version-check --no-input cryptofeed==3.0.1 asyncpg uvloop
	@touch $@

PEER_PYTHON ?= python3.13

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile --require-hashes
INSTALL_FOREBAY = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
	--no-deps --no-build-isolation --editable .
