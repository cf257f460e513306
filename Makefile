# omtd.workflow: two commands for everybody (demo, test), the rest for people who work on the collection.
#
#   make demo        a small site of containers on this machine, every service, a real workflow, a report
#   make demo-down   nothing of it is left behind
#   make test        every check; `make help` lists its parts
#
# Variables: ROLE=x (one role), JOBS=n (scenarios at a time)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
BUILD := $(CURDIR)/.build
# The artefact is installed here, and everything runs from here: people and tests use what users get.
COLLECTION := $(BUILD)/ansible_collections/omtd/workflow
JOBS ?= 2
PYTEST := $(VENV)/bin/pytest

export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(BUILD)
export ANSIBLE_NOCOWS := 1
export PYTHONUNBUFFERED := 1

SOURCES = $(wildcard $(shell git ls-files --cached --others --exclude-standard 2>/dev/null))

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# ---------------------------------------------------------------- what everything needs
.PHONY: setup
setup: $(BUILD)/system.stamp $(VENV)/.complete ## install what this project needs on this machine

$(BUILD)/system.stamp: scripts/install-system-packages scripts/system-packages.txt
	@scripts/install-system-packages
	@mkdir -p $(@D) && touch $@

$(VENV)/.complete: requirements-dev.txt requirements-uv.txt | $(BUILD)/system.stamp
	@scripts/make-venv $(VENV)
	@touch $@

.PHONY: install
install: $(BUILD)/installed.stamp ## build the artefact and install it into a scratch ansible_collections tree

$(BUILD)/installed.stamp: $(SOURCES) | setup
	@scripts/install-artefact $(BUILD)
	@touch $@

.PHONY: build
build: setup ## build the artefact that `ansible-galaxy collection install` takes
	ansible-galaxy collection build --force --output-path $(BUILD)

.PHONY: lock
lock: setup ## renew the locked Python requirements from requirements*.in
	scripts/lock-requirements

# ---------------------------------------------------------------- the demo
.PHONY: demo demo-down
demo: install ## a small site of containers on this machine, from nothing to a finished workflow
	@scripts/demo.py up

demo-down: install ## take the demo away again, completely
	@scripts/demo.py down

# ---------------------------------------------------------------- the tests
.PHONY: test
test: install ## everything below
	@JOBS=$(JOBS) scripts/run_tests.py lint unit podman roles site

.PHONY: test-lint test-sanity test-unit test-podman test-roles test-site
test-lint: install ## ruff, mypy, yamllint, ansible-lint, ansible-test sanity
	@scripts/run_tests.py lint

test-sanity: install
	@scripts/ansible-test-sanity $(COLLECTION)

test-unit: install ## unit and property tests
	@scripts/run_tests.py unit

test-podman: install ## the podman cloud for real: create, resume after SIGKILL, tear down
	@scripts/run_tests.py podman

test-roles: install ## Molecule for every role (ROLE=x for one)
	@scripts/run_scenarios.py --jobs $(JOBS) $(ROLE)

test-site: install ## the demo's own path, twice, then verify
	@scripts/run_tests.py site

.PHONY: role
role: install ## converge the scenario of ROLE and keep its machines (the inner loop)
	cd $(COLLECTION) && molecule --base-config .config/molecule/config.yml converge -s $(ROLE)

.PHONY: bench
bench: install ## print the figures and ratios of the speed table
	@scripts/bench.py

.PHONY: clean
clean: ## remove what make built (not the demo: make demo-down)
	rm -rf $(BUILD) $(VENV) .ansible .mypy_cache .ruff_cache .pytest_cache .hypothesis
