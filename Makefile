# Each target first sets up what it needs, which is quick if nothing has changed.
.DEFAULT_GOAL := help
# The newest Python on which smdebug runs, which the sandbox and so the tests need. A pyenv shim may be on the
# PATH and not run. The daemon and the commands also run on Python 3.13: see `make pythons`.
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
    && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-fast lint kills replicas ends pythons bench bench-memory parity-torch notebooks-v3 notebooks-histograms image image-check lock clean

help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 29

setup: $(READY) ## create a virtual environment in .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.12 or 3.11 on the PATH: install one, or name it with" \
	    "make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## show Watcher from training to alert and stop, on the local sandbox
	$(BIN)/watcher demo

lint: $(READY) ## run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Most tests wait for another process, so the suite is faster with more workers than cores.
WORKERS ?= 4
test: lint ## run everything that CI checks; WORKERS= sets how many tests run at a time
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal

test-fast: $(READY) ## run the tests that start no process, in less than a minute
	$(BIN)/pytest --numprocesses=2 --dist=worksteal tests/core tests/rules tests/docs

kills: $(READY) ## kill the daemon 300 times, in the middle of messages, edits and stops
	WATCHER_KILLS=300 $(BIN)/pytest tests/e2e/test_kill.py -s

replicas: $(READY) ## kill and throttle 4 replicas with 2,000 jobs and 5,000 findings; half an hour
	WATCHER_REPLICA_JOBS=2000 $(BIN)/pytest tests/e2e/test_replicas.py -s

ends: $(READY) ## end the daemon, a single pass and the sandbox 100 times each with two signals at once
	WATCHER_ENDS=100 $(BIN)/pytest tests/e2e/test_end_signals.py

# Debian's Python, like the image's, is built with profile-guided optimization. One that pyenv compiles is not,
# and needs a third more processor time.
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) $(BIN)/python)
bench: $(READY) ## measure speed, memory and cost; PARTS=, BENCH_PYTHON= runs daemons, BENCH_BEFORE= compares
	BENCH_PYTHON=$(abspath $(BENCH_PYTHON)) $(BIN)/python -m tests.bench $(PARTS)

bench-memory: $(READY) ## measure the memory of `watcher logs` on 1,000 streams for ten minutes
	$(BIN)/python -m tests.bench.logs memory

TORCH := .venv-torch
parity-torch: $(READY) ## compare with smdebug on a PyTorch training, in .venv-torch
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	    > `$(TORCH)/bin/python -c 'import site; print(site.getsitepackages()[0])'`/locked.pth
	$(TORCH)/bin/python -m pytest tests/shell/test_parity_pytorch.py

V3 := .venv-v3
notebooks-v3: $(READY) ## run the notebooks of SageMaker's SDK v3 on the sandbox, in .venv-v3 (1 GB)
	$(PYTHON) -m venv $(V3)
	$(V3)/bin/pip install --quiet --disable-pip-version-check sagemaker==3.27.0
	SAGEMAKER_V3_PYTHON=$(abspath $(V3)/bin/python) $(BIN)/pytest tests/notebooks/test_sdk_v3.py

HISTOGRAMS := .venv-histograms
notebooks-histograms: $(READY) ## run smdebug's own histograms in Jupyter, in .venv-histograms
	$(PYTHON) -m venv $(HISTOGRAMS)
	$(HISTOGRAMS)/bin/pip install --quiet --disable-pip-version-check -r tests/notebooks/histograms/requirements.txt
	HISTOGRAMS_PYTHON=$(abspath $(HISTOGRAMS)/bin/python) $(BIN)/pytest tests/notebooks/test_histograms.py

# The first engine that answers, because docker may be installed while its daemon does not run. buildah must
# write docker's format, because OCI's has no HEALTHCHECK.
ENGINE ?= $(shell for engine in docker podman buildah; do \
    $$engine version >/dev/null 2>&1 && echo $$engine && break; done)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= watcher:$(VERSION)
image: ## build the container image; TAG=, PLATFORM=, ENGINE=, IMAGE_FLAGS=
	@test -n "$(ENGINE)" || { echo "no container engine answers: start docker, or install podman or buildah" \
	    "(make image-check needs none)" >&2; exit 1; }
	BUILDAH_FORMAT=docker $(ENGINE) build --tag $(TAG) $(if $(PLATFORM),--platform $(PLATFORM)) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=`git rev-parse HEAD 2>/dev/null || echo unknown` \
	    $(IMAGE_FLAGS) .

pythons: $(READY) ## install the wheel on each Python of this machine, from 3.11 to 3.13, and try it
	$(BIN)/pytest tests/pythons/check.py -s

image-check: $(READY) ## build the image without a container engine, and test it (as root)
	$(BIN)/pytest tests/image/check.py -s

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
lock: ## resolve all dependencies again, and those of the image from them
	$(COMPILE) --upgrade --all-extras --output-file=requirements.lock pyproject.toml
	$(COMPILE) --extra plot --build-deps-for wheel --constraint requirements.lock \
	    --output-file=requirements-image.lock pyproject.toml

clean: ## remove the virtual environments and the caches of tools
	rm -rf .venv $(TORCH) $(HISTOGRAMS) $(V3) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
