# Every target sets up what it needs; the second time that is quick.
.DEFAULT_GOAL := help
# The newest Python on which smdebug runs, which the sandbox and so the tests need. A pyenv shim may be on the
# PATH and not run. The daemon and the commands also run on Python 3.13: see `make pythons`.
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
    && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-fast lint kills replicas pythons bench bench-memory parity-torch image image-check lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(READY) ## a virtual environment in .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.12 or 3.11 on the PATH: install one, or name it with" \
	    "make PYTHON=/path/to/python" >&2; exit 1; }
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

# Most tests wait for another process, so more of them than there are cores finish sooner.
WORKERS ?= 4
test: lint ## everything that CI checks. WORKERS=: how many tests run at a time
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal

test-fast: $(READY) ## the tests that start no process: half a minute, for every save
	$(BIN)/pytest --numprocesses=2 --dist=worksteal tests/core tests/rules tests/docs

kills: $(READY) ## kill -9 between detection and delivery, many more times than in `make test`
	WATCHER_KILLS=300 $(BIN)/pytest tests/e2e/test_kill.py -s

replicas: $(READY) ## 4 replicas, 2,000 jobs, 5,000 findings, killed and throttled; half an hour
	WATCHER_REPLICA_JOBS=2000 $(BIN)/pytest tests/e2e/test_replicas.py -s

# The image's Python is built with profile-guided optimization, as Debian's is. What pyenv compiles is not, and
# takes a third more.
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) $(BIN)/python)
bench: $(READY) ## measures; never part of the tests. BENCH_PYTHON=: runs the daemons
	BENCH_PYTHON=$(abspath $(BENCH_PYTHON)) $(BIN)/python -m tests.bench

bench-memory: $(READY) ## memory of watcher logs that follows 1,000 streams for ten minutes
	$(BIN)/python -m tests.bench.logs memory

TORCH := .venv-torch
parity-torch: $(READY) ## the parity with smdebug on a PyTorch training, in a virtual environment beside
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	    > `$(TORCH)/bin/python -c 'import site; print(site.getsitepackages()[0])'`/locked.pth
	$(TORCH)/bin/python -m pytest tests/shell/test_parity_pytorch.py

# The first that answers: docker may be there while its daemon is not. The OCI format would drop HEALTHCHECK.
ENGINE ?= $(shell for engine in docker podman buildah; do \
    $$engine version >/dev/null 2>&1 && echo $$engine && break; done)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= watcher:$(VERSION)
image: ## the container image; TAG=, PLATFORM=, ENGINE=, IMAGE_FLAGS=
	@test -n "$(ENGINE)" || { echo "no container engine answers: start docker, or install podman or buildah" \
	    "(make image-check needs none)" >&2; exit 1; }
	BUILDAH_FORMAT=docker $(ENGINE) build --tag $(TAG) $(if $(PLATFORM),--platform $(PLATFORM)) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=`git rev-parse HEAD 2>/dev/null || echo unknown` \
	    $(IMAGE_FLAGS) .

pythons: $(READY) ## install the wheel on each Python of this machine, from 3.11 to 3.13, and try it
	$(BIN)/pytest tests/pythons/check.py -s

image-check: $(READY) ## build the image without a container engine, and try it (as root)
	$(BIN)/pytest tests/image/check.py -s

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
lock: ## resolve the dependencies anew: all of them, and from these what the image gets
	$(COMPILE) --upgrade --all-extras --output-file=requirements.lock pyproject.toml
	$(COMPILE) --extra plot --build-deps-for wheel --constraint requirements.lock \
	    --output-file=requirements-image.lock pyproject.toml

clean: ## remove the virtual environment and what tools leave behind
	rm -rf .venv $(TORCH) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
