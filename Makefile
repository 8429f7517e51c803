# `make demo` and `make test` do everything. A suitable Python is found by itself; to choose: make PYTHON=/path/to/python
# GNU make 3.81 and later.
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

# Two test processes with one OpenMP thread each use two cores better than one process with two.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: help setup demo test test-slow test-browser lint test-pythons bench clean
.DEFAULT_GOAL := help

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F '|' '{ printf "%-15s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with every package at its pinned version

$(READY): setup.py constraints.txt scripts/setup_venv.sh
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) || exit 1; \
	echo "Making $(VENV) with $$python (once; it downloads about 200 MB)"; \
	sh scripts/setup_venv.sh "$$python" $(VENV)
	@touch $@

demo: $(READY) ## train, measure, export and try a detector on the built-in dataset
	$(RUN) -m mnssd.cli.main demo

test: lint ## lint, and all tests but the slow ones
	$(PYTEST) -m "not slow and not browser"

test-slow: $(READY) ## the tests that take minutes
	$(PYTEST) -m slow

test-browser: $(READY) ## a report in a real Chromium, which has to be installed
	$(RUN) -m pip install --quiet -c constraints.txt axe-playwright-python playwright
	$(PYTEST) -m browser

lint: $(READY) ## style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test-pythons: ## set up and try each Python from 3.8 to 3.11 that this machine has
	sh scripts/test_pythons.sh

PEERS := .venv-peers
bench: $(READY) $(PEERS)/.ready ## measure speed against the peers, half an hour on a machine with nothing else to do
	$(RUN) benchmarks/run.py --peers $(PEERS)/bin/python $(if $(VOC),--voc "$(VOC)") $(if $(ONLY),--only "$(ONLY)")

$(PEERS)/.ready: benchmarks/peers.txt
	$(RUN) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install -r benchmarks/peers.txt
	@touch $@

clean: ## remove what make and the tools made; never data, runs or exports
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mnssd tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
