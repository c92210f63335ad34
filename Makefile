# Every target sets up what it needs; the second time that is quick.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test lint kills bench parity-torch lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: $(READY) ## a virtual environment in .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the main job, end to end, on the embedded sandbox
	$(BIN)/watcher demo

lint: $(READY) ## ruff, mypy, the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## everything that CI checks
	$(BIN)/pytest

kills: $(READY) ## kill -9 between detection and delivery, many more times than in `make test`
	WATCHER_KILLS=300 $(BIN)/pytest tests/e2e/test_kill.py -s

bench: $(READY) ## measures; never part of the tests
	$(BIN)/python -m tests.bench

TORCH := .venv-torch
parity-torch: $(READY) ## the parity with smdebug on a PyTorch training, in a virtual environment beside
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	    > `$(TORCH)/bin/python -c 'import site; print(site.getsitepackages()[0])'`/locked.pth
	$(TORCH)/bin/python -m pytest tests/shell/test_parity_pytorch.py

lock: ## resolve the dependencies anew
	$(BIN)/pip-compile --upgrade --quiet --all-extras --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	    --output-file=requirements.lock pyproject.toml

clean: ## remove the virtual environment and what tools leave behind
	rm -rf .venv $(TORCH) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
