# `make demo` and `make test` need nothing else. A suitable Python is found automatically; to choose one:
# make PYTHON=/path/to/python. Works with GNU make 3.81 and later.
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

# This variable turns bytecode files off: each process would compile MXNet, SciPy and others again, in four seconds.
unexport PYTHONDONTWRITEBYTECODE

# Two test processes with one OpenMP thread each use two cores better than one process with two threads.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: help setup demo test pytest test-slow test-browser lint test-pythons bench clean
.DEFAULT_GOAL := help

help: ## show this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F '|' '{ printf "%-15s %s\n", $$1, $$2 }'

setup: $(READY) ## create .venv with all packages at their pinned versions
	@echo "Ready. To use the commands mnssd and python, activate the environment: . $(VENV)/bin/activate"

$(READY): setup.py constraints.txt scripts/setup_venv.sh
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) || exit 1; \
	echo "Creating $(VENV) with $$python (once; downloads about 280 MB)"; \
	sh scripts/setup_venv.sh "$$python" $(VENV)
	@touch $@

demo: $(READY) ## train, evaluate, export and run a detector on the built-in dataset
	$(RUN) -m mnssd.cli.main demo

test: $(READY) ## run the linters and, beside them, all tests except slow ones
	@$(MAKE) --jobs=2 --keep-going lint pytest

pytest: $(READY) ## run all tests except slow ones
	$(PYTEST) -m "not slow and not browser"

test-slow: $(READY) ## run the tests that `make test` leaves out
	$(PYTEST) -m slow

test-browser: $(READY) ## test reports and web exports in Chromium, which must be installed
	$(RUN) -m pip install --quiet -c constraints.txt axe-playwright-python playwright
	$(PYTEST) -m browser

lint: $(READY) ## check style, format, types and words
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) scripts/check_words.py

test-pythons: ## set up and test each installed Python from 3.8 to 3.11
	sh scripts/test_pythons.sh

PEERS := .venv-peers
bench: $(READY) $(PEERS)/.ready ## compare speed with other frameworks; 45 minutes on an idle machine
	$(RUN) benchmarks/run.py --peers $(PEERS)/bin/python $(if $(VOC),--voc "$(VOC)") $(if $(ONLY),--only "$(ONLY)")

$(PEERS)/.ready: benchmarks/peers.txt
	$(RUN) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install -r benchmarks/peers.txt
	@touch $@

clean: ## remove .venv, caches and build output, but no data, runs or exports
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mnssd tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
