# Every target sets up what it needs in .venv and sets it up again when a lock or pyproject.toml changes.
#   PYTHON=python3.12   the interpreter to use (3.10 or newer)
#   SLICER=...         the Slicer of test-slicer, with torch, safetensors, rich and typer in its Python
#   PIP_FLAGS=...       further flags for pip install, for example an index that has a smaller build of torch

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
PIP_FLAGS ?=
# Files of tests are dealt out to a process for every core, of one thread each.
PYTEST_FLAGS ?= -n auto --maxprocesses 4 --dist loadfile

BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq $(PIP_FLAGS)
PROJECT := pyproject.toml DLIRRegistration/dlir/__init__.py

# A .venv that was moved, half made, or whose interpreter is gone is made anew.
ifneq ($(shell cat .venv/made-in 2>/dev/null && $(BIN)/python -c "import pip" 2>&1),$(CURDIR))
.PHONY: .venv/made-in
endif

# The demo's few packages are part of the development set: where that is installed, it serves.
DEMO_STAMP := $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/demo.stamp)

.PHONY: help demo test test-fast test-slicer lint docs wheel clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO_STAMP)  ## register the shipped cine pair, print the table, write demo-output/
	@$(BIN)/dlir demo --output demo-output

test: .venv/dev.stamp  ## run every test
	@$(BIN)/python Testing/Python/native_libraries.py
	@$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-fast: .venv/dev.stamp  ## run the tests that take no more than a few seconds each
	@$(BIN)/python Testing/Python/native_libraries.py
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_FLAGS)

test-slicer:  ## play the scenarios of Testing/Slicer in a real Slicer: make test-slicer SLICER=/path/to/Slicer
	@test -n "$(SLICER)" || { echo "Name the application: make test-slicer SLICER=/path/to/Slicer" >&2; exit 2; }
	@python3 Testing/Slicer/run.py --slicer "$(SLICER)"

lint: .venv/dev.stamp  ## check style, format and types
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	exit $$failed

docs: .venv/docs.stamp  ## build the documentation site into build/site
	@$(BIN)/python docs/site/make_site.py

wheel: $(DEMO_STAMP)  ## build the wheel and the source package into dist/
	@$(BIN)/python -m hatchling build -d dist

clean:  ## remove .venv, caches, build and demo output
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist demo-output
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made-in:
	@set -e; python=; \
	for name in $(or $(PYTHON),python3.11 python3.12 python3.10 python3.13 python3.14 python3); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "No Python 3.10 or newer here$(if $(PYTHON), as $(PYTHON)). Install one, or name it: make PYTHON=python3.11" >&2; \
	    exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	        echo "$$python cannot make virtual environments: apt install python3-venv (or $$package), then try again" >&2; \
	        exit 1; \
	    fi; \
	    echo "Installing $$package"; \
	    apt-get update -qq; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get install -y -qq "$$package" >/dev/null || apt-get install -y -qq python3-venv >/dev/null; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	rm -rf .venv; \
	"$$python" -m venv .venv; \
	printf '%s\n' "$(CURDIR)" >.venv/made-in

.venv/dev.stamp: requirements-dev.lock $(PROJECT) .venv/made-in
	@echo "Installing the development packages (some minutes the first time)"
	@$(PIP) -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/docs.stamp: requirements-docs.lock $(PROJECT) .venv/made-in
	@$(BIN)/python -c 'import sys; sys.exit("The site needs Python 3.11 or newer: make clean docs PYTHON=python3.11" \
	    if sys.version_info < (3, 11) else 0)'
	@echo "Installing the packages of the documentation (some minutes the first time)"
	@$(PIP) -r requirements-docs.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/demo.stamp: requirements-demo.lock $(PROJECT) .venv/made-in
	@echo "Installing the demo's packages (some minutes the first time)"
	@$(PIP) -r requirements-demo.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
