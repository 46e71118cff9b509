# Life cycle in two commands: `make conformance` and `make test`. `make help` lists all targets.
# Underneath is plain pytest; nothing here hides its options: make conformance ARGS='-k services -x'

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
WORKERS ?= 4
# Suites share the machine with their own cluster: more at once than processors only wait longer.
SUITE_WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 4); echo $$((n > 2 ? n : 2)))
ARGS ?=
# PROFILE=conformance adds a node in ipvs mode. ARGS that name a profile or a cluster decide for
# themselves.
PROFILE ?= native
NAMED = $(filter --profile% --cluster% --reuse-cluster%,$(ARGS))

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dualstack-conformance
# Another interpreter or another lock file is another environment; the old one stays usable.
HASH := $(shell { $(PYTHON) -c 'import sys; print(sys.executable, sys.version)'; cat requirements.lock; } | sha256sum | cut -c1-12)
VENV := $(CACHE)/venv-$(HASH)
RUN := $(VENV)/bin/python -m
# Named, because ruff would also reformat the code in Markdown.
SOURCES := $(wildcard bench clusters conftest.py helpers reports suites tests)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: conformance
conformance: deps venv ## a dual-stack cluster with Calico, and verdicts about it (ARGS go to pytest)
	$(RUN) pytest suites -n$(SUITE_WORKERS) $(if $(NAMED),,--profile $(PROFILE)) $(ARGS)

.PHONY: test
test: deps browser lint unit live ## the harness's own tests, then the live proof that the main job works

.PHONY: unit
unit: browser venv ## the harness's own tests
	$(RUN) pytest tests -n$(WORKERS) $(ARGS)

.PHONY: live
live: deps venv ## the suites on a cluster of their own
	$(RUN) pytest suites -n$(SUITE_WORKERS) --profile native

.PHONY: prove
prove: deps venv ## plant faults in a cluster of its own: do exactly the right requirements turn red?
	$(RUN) pytest suites --prove -n$(SUITE_WORKERS) $(ARGS)

FROM ?= v3.30.1
TO ?= v3.31.0

.PHONY: upgrade-gate
upgrade-gate: deps venv ## may this Calico ship? FROM=v3.30.1 TO=v3.31.0: verdicts, upgrade under flows, verdicts
	$(RUN) pytest suites --upgrade-from $(FROM) --upgrade-to $(TO) -n$(SUITE_WORKERS) $(ARGS)

.PHONY: lint
lint: venv ## formatting, style and types
	$(RUN) ruff format --check $(SOURCES)
	$(RUN) ruff check $(SOURCES)
	$(RUN) mypy

.PHONY: docs
docs: venv ## write the generated files: docs/requirements.md, docs/diagnoses.md, the JSON Schema
	$(RUN) reports docs --write

.PHONY: up down list reap
up: deps venv ## make a cluster and keep it (ARGS='--profile NAME')
	$(RUN) clusters up $(ARGS)
down: venv ## delete clusters that `make up` made (ARGS=NAME)
	$(RUN) clusters down $(ARGS)
list: venv ## clusters that exist now
	$(RUN) clusters list
reap: venv ## delete what dead runs left behind
	$(RUN) clusters reap

.PHONY: bench
bench: deps venv ## measure what docs/architecture.md promises
	$(RUN) bench $(ARGS)

.PHONY: venv
# The marker is made last: an environment whose build was interrupted is built again.
venv: ## the Python environment, from requirements.lock
	@mkdir -p $(CACHE)
	@exec 9>$(CACHE)/venv.lock; flock 9; \
	test -e $(VENV)/.complete && exit 0; \
	echo "Python environment: $(VENV)"; \
	rm -rf $(VENV); \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or later is needed: make PYTHON=python3.11" >&2; exit 2; }; \
	$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "error: no venv module: apt-get install -y python3-venv" >&2; exit 2; }; \
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements.lock; \
	touch $(VENV)/.complete

# Installs the Debian packages in $$missing; others than root are told $(1) and go on.
define install_missing
	test -n "$$missing" || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "not root: $(1), as root: apt-get install -y $$missing" >&2; exit 0; \
	fi; \
	echo "installing: $$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get install -qq -y --no-install-recommends $$missing >/dev/null 2>&1 \
	  || { apt-get update -qq; apt-get install -qq -y --no-install-recommends $$missing; }
endef

.PHONY: deps
# Asked before there is an environment, so the list comes from a module of the standard library.
# Others than root go on: with a Docker engine of their own they may need none of it, and the run's
# preflight says what it cannot do without.
deps: ## Debian packages that are missing (installed when root, else named)
	@missing="$$($(PYTHON) -m clusters preflight --packages)"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	missing="$$(echo $$missing)"; \
	$(call install_missing,if the run asks for them)

.PHONY: browser
# Only the harness's own tests need it: they look at the page of a run as a person does.
browser: ## Debian's chromium, if there is no such browser (installed when root, else named)
	@missing=chromium; \
	for name in chromium chromium-browser google-chrome; do \
	  ! command -v $$name >/dev/null || missing=; \
	done; \
	$(call install_missing,to test the page of a run)

.PHONY: lock
lock: ## requirements.lock from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "error: uv is needed: pip install uv" >&2; exit 2; }
	uv pip compile pyproject.toml --extra dev --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 --upgrade --quiet --output-file requirements.lock

.PHONY: clean
clean: ## reports and tool caches of this directory (clusters: make down; caches: see README)
	rm -rf reports/out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
