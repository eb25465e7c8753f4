# make demo   install into .venv and show the main job on synthetic images, without configuration
# make test   install what the tests need, then lint, types and every test but those of test-long
#
# Both may be run first, and again: what is installed is installed once, until pyproject.toml or
# constraints.txt change. On a machine without a GPU, a smaller torch is had by
#   make demo PIP_OPTIONS='--extra-index-url https://download.pytorch.org/whl/cpu'
# and then with the same PIP_OPTIONS for every target: torch and torchvision of different indexes are
# of different builds, and do not work together.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?=
PIP_OPTIONS ?=
DEMO_OPTIONS ?=
PYTEST_OPTIONS ?=
# Tests wait for half of their time, so that three keep two cores busy. A file stays with one worker;
# slow files come first. PYTEST_OPTIONS=-n0 runs one test after the other.
WORKERS ?= 3
# Tests start hundreds of processes of the node, each of which would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE
IN_PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
BENCH_OPTIONS ?=
COMPATIBILITY_OPTIONS ?=
ATTACK_OPTIONS ?=
TEST_EXTRAS := cpu,test,train,nnunet,huggingface,endpoints,tracing

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: help
help:
	@echo 'make demo           install, then run the demonstration'
	@echo 'make test           install the test tools, then lint, types and every test'
	@echo 'make test-long      what takes long: models of every kind, training, earlier examinations from an archive'
	@echo 'make test-postgresql  the ledger and the acceptance tests on PostgreSQL, all of them'
	@echo 'make lint           ruff and mypy only'
	@echo 'make conformance    only the tests that ask other validators about our objects'
	@echo 'make compatibility  every kind of object under every validator and reader, OHIF among them'
	@echo 'make bench          one table of measurements beside peers, in a few minutes'
	@echo 'make bench-full     all of it'
	@echo 'make attack         100,000 malformed associations, data sets and handshakes against a listener'
	@echo 'make docs           the documentation as a site, into site/'
	@echo 'make clean          remove caches and build products; distclean: .venv too'

$(BIN)/python:
	@PYTHON='$(PYTHON)' deploy/make-venv.sh $(VENV)

$(VENV)/.installed-demo: $(REQUIREMENTS) | $(BIN)/python
	@echo 'Installing dicom-node into $(VENV) (the first time this takes some minutes)'
	$(INSTALL) -e '.[cpu]'
	@touch $@

$(VENV)/.installed-test: $(REQUIREMENTS) | $(BIN)/python
	@echo 'Installing dicom-node and what its tests need into $(VENV)'
	$(INSTALL) -e '.[$(TEST_EXTRAS)]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-compatibility: $(VENV)/.installed-test
	$(INSTALL) -e '.[$(TEST_EXTRAS),compatibility]'
	@touch $@

.PHONY: demo
demo: $(VENV)/.installed-demo
	$(BIN)/dicom-node demo $(DEMO_OPTIONS)

.PHONY: tools
tools:
	@tests/install_tools.sh

# Lint and types do not hold back the tests: mypy, which knows one core only, works beside them, and
# what it says is the last thing to read.
.PHONY: test
test: tools $(VENV)/.installed-test
	@status=0; \
	$(BIN)/ruff check . || { status=1; echo 'ruff check FAILED'; }; \
	types=$$(mktemp); $(BIN)/mypy >$$types 2>&1 & mypy=$$!; \
	tests/in_private_network.sh $(BIN)/python -m pytest $(IN_PARALLEL) -m 'not long' $(PYTEST_OPTIONS) || status=1; \
	wait $$mypy || { status=1; echo 'mypy FAILED'; }; \
	cat $$types; rm -f $$types; \
	exit $$status

.PHONY: test-long
test-long: tools $(VENV)/.installed-test
	tests/in_private_network.sh $(BIN)/python -m pytest $(IN_PARALLEL) -m long $(PYTEST_OPTIONS)

# All that is tried on each database, on PostgreSQL.
.PHONY: test-postgresql
test-postgresql: tools $(VENV)/.installed-test
	tests/in_private_network.sh $(BIN)/python -m pytest $(IN_PARALLEL) -m postgresql $(PYTEST_OPTIONS)

.PHONY: lint
lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: conformance
conformance: tools $(VENV)/.installed-test
	tests/in_private_network.sh $(BIN)/python -m pytest tests/conformance $(PYTEST_OPTIONS)

# npm finds nobody in the private network, so that it goes first.
.PHONY: compatibility
compatibility: $(VENV)/.installed-compatibility
	@tests/install_tools.sh compatibility
	$(BIN)/python -m tests.acceptance.compatibility.downloads
	tests/in_private_network.sh $(BIN)/python -m tests.acceptance.compatibility $(COMPATIBILITY_OPTIONS)

# Ten minutes and more; the suite has some hundred of its cases.
.PHONY: attack
attack: $(VENV)/.installed-test
	$(BIN)/python -m tests.attack.fuzz $(ATTACK_OPTIONS)

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(INSTALL) -e '.[$(TEST_EXTRAS),bench]'
	@touch $@

# Some five minutes where nothing else runs. BENCH_OPTIONS=--resume goes on where it was broken off.
.PHONY: bench
bench: tools $(VENV)/.installed-bench
	tests/in_private_network.sh $(BIN)/python -m bench table $(BENCH_OPTIONS)

# Some half an hour, more rounds, longer series, growth.
.PHONY: bench-full
bench-full: tools $(VENV)/.installed-bench
	tests/in_private_network.sh $(BIN)/python -m bench table --full $(BENCH_OPTIONS)

# Without a network, and with nothing in it that a browser would fetch from elsewhere.
.PHONY: docs
docs: $(VENV)/.installed-test
	$(BIN)/python -m dicom_node.operations.configuration_reference config.yaml \
		> docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: clean
clean:
	rm -rf build dist site demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

.PHONY: distclean
distclean: clean
	rm -rf $(VENV)
