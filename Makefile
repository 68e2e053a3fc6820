# make demo     set up .venv, score the bundled benchmark, print where the report is
# make test     the same set-up, then the test suite
# make ci       make test, lint, types, layers, slow and browser tests

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test ci lint types layers slow browser clean

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evalft needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/installed
	$(BIN)/evalft demo

test: .venv/installed
	$(BIN)/python -m pytest

ci: test lint types layers slow browser

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

layers: .venv/installed
	$(BIN)/lint-imports

slow: .venv/installed
	$(BIN)/python -m pytest -m 'slow and not browser'

browser: .venv/installed
	$(BIN)/python -m pytest -m browser

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
