# Targets are listed by `make help`. Only Python 3.11 to 3.13, git and make are required.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv resolves torch and torchvision as a pair and installs in seconds; pip installs uv.
STAMP := $(VENV)/.installed
# Tests of one module share their fixtures, so they run in one of the two processes.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope

.PHONY: setup train test test-slow check layers format clean lock
.DEFAULT_GOAL := help

help:
	@echo "make setup      create $(VENV) with the pinned dependencies"
	@echo "make train      train and test the default model on the synthetic demo country (minutes)"
	@echo "make test       the tests, about 5 minutes; with COVERAGE=1 also branch coverage, twice as long"
	@echo "make test-slow  the longer tests"
	@echo "make check      ruff, mypy strict, layers"
	@echo "make lock       renew requirements.lock from pyproject.toml"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else 'geoguesser requires Python 3.11, 3.12 or 3.13; choose one with make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

train: setup
	$(BIN)/python -m geoguesser.train

test: setup
ifdef COVERAGE
	$(BIN)/python -m coverage erase
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(PYTEST) -m "not slow" --cov --cov-report=term --durations=10
else
	$(PYTEST) -m "not slow" --durations=10
endif

test-slow: setup
	$(PYTEST) -m slow --durations=10

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

layers: setup
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet -o requirements.lock

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .hypothesis build dist
