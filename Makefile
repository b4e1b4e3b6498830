# Two commands do everything on a fresh machine: make demo, make test. The rest is for those who change the code.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all check docs clean bench-env
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/pyrite models fetch
	$(BIN)/pyrite demo

test: .venv/ready-dev
	$(BIN)/pyrite models fetch
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not real" --durations=20

# Everything, with real data where PYRITE_DATA names its folder, and long runs.
test-all: .venv/ready-dev
	$(BIN)/pyrite models fetch
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: .venv/ready-dev
	$(BIN)/python docs/generate.py

# Peers that a benchmark compares with live in an environment of their own.
bench-env: constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt datatrove==0.10.1 spacy tldextract

# torch comes first and pinned, so that nothing else chooses its build: a CPU machine keeps a CPU build.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(PIP) --editable '.[dev,quant,eval,remote,track]'
	touch $@

clean:
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache
