# Two commands do everything on a fresh machine: make demo, make test. The rest is for those who change the code.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all check docs site dist clean bench bench-env
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/pyrite models fetch
	$(BIN)/pyrite demo

test: .venv/ready-dev .venv/browser
	$(BIN)/pyrite models fetch
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not real" --durations=20

# Everything, with real data where PYRITE_DATA names its folder, and long runs.
test-all: .venv/ready-dev .venv/browser
	$(BIN)/pyrite models fetch
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/names.py
	$(BIN)/python docs/generate.py --check

docs: .venv/ready-dev
	$(BIN)/python docs/generate.py

# A wheel with all that runs: bundled studies and loops, templates, tables.
dist: .venv/ready
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The pages as a site that also works from disk: open site/index.html. (--quiet would make --strict say nothing.)
site: docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Peers that a benchmark compares with live in an environment of their own.
bench-env: constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt datatrove==0.10.1 spacy tldextract ray \
	  xllamacpp==2026.10.11549

# This machine's table: ours against plain transformers, lm-eval, llama.cpp and our own fp32.
bench: .venv/ready-dev
	$(BIN)/python benchmarks/table.py

# torch comes first and pinned, so that nothing else chooses its build: a CPU machine keeps a CPU build.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(PIP) --editable '.[dev,docs,quant,eval,remote,track]'
	touch $@

# Chromium for the tests that open pages, tried once: on a machine where we may install it (root, apt, not Ubuntu, whose
# package is a stub). Without it these tests skip by name, and everything else runs.
CHROMIUM := chromium chromium-browser google-chrome google-chrome-stable
APT := timeout 600 env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20
.venv/browser: .venv/ready-dev
	@if test -n "$$PYRITE_CHROMIUM" || which $(CHROMIUM) | grep -q .; then true; \
	elif test "$$(id -u)" = 0 && which apt-get > /dev/null && ! grep -qs '^ID=ubuntu' /etc/os-release; then \
	  echo "installing Chromium for the browser tests (once)"; \
	  ($(APT) update && $(APT) install --yes --no-install-recommends chromium fonts-liberation) > .venv/browser.log 2>&1 \
	    || echo "no Chromium could be installed (.venv/browser.log): browser tests skip by name"; \
	else echo "no Chromium found: browser tests skip by name"; fi
	@touch $@

clean:
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache
