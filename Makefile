# Every target is one line a person could type. All of them see to setup first; it is quick when nothing changed.
.DEFAULT_GOAL := help
.PHONY: $(shell sed -n "s/^\([a-z-]*\):.*/\1/p" Makefile)
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PACKAGES := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
PROJECTS := pyproject.toml $(PACKAGES)
# This tree's own packages are installed from it, so they are left out.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header $$(sed -n 's/^name = "\(ae[a-z-]*\)"/--no-emit-package \1/p' $(PROJECTS))
BUF := .tools/buf-1.75.0
HELM := .tools/helm-3.19.0
HA := .tools/ha-1
CHART := --values helm/aetheris/ci/values.yaml --kube-version 1.31

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv with what running needs: all pinned by hash, this tree's packages editable
	@PYTHON=$(PYTHON) .ci/setup

setup-dev: ## Add what working on this tree needs: tests, types, lint (the targets that need it do so themselves)
	@PYTHON=$(PYTHON) .ci/setup dev

dist: setup ## Build wheels of all packages, and fetch what they need, into dist/: pip can install from there
	@$(BIN)/python .ci/packages.py dist $(ARGS)

run-embedded: setup ## Run all of Aetheris here: REST on 127.0.0.1:8080, data in ./.aetheris (ARGS="--runners 2 my_agent.py")
	@$(BIN)/python -m aetheris_embedded $(ARGS)

demo: setup ## Kill a runner in the middle of a payment and count the charges
	@$(BIN)/python examples/checkout/demo.py $(ARGS)

# The workers must collect the same tests in the same order, and a set of strings has another order in each process.
# Tests wait more than they work: three workers keep two cores busy.
TEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: setup-dev ## Run the tests, but not the slow ones (ARGS="-k name" narrows)
	@$(TEST) $(ARGS)

test-all: setup-dev ## Run the slow tests as well; what CI runs
	@$(TEST) -m "not chaos" $(ARGS)

chaos: setup-dev ## Kill real processes under load, then check the record (CHAOS_S=180 CHAOS_SEED=7, ARGS="--json out.json")
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m chaos --timeout 300 tests/chaos $(ARGS)

chaos-ha: setup-dev $(HA)/ready ## Freeze, kill and switch the leader of three PostgreSQL under Patroni, while jobs run
	@$(BIN)/python -m pytest -m chaos tests/chaos/suite/test_x5_failover.py $(ARGS)

histories: setup-dev ## Record what this version's jobs look like, for the versions after it to replay
	@$(BIN)/python tests/replay/sdk/record.py $(ARGS)

bench: setup-dev ## Measure steps and jobs per second with separate processes (BASE=<commit> compares with it; ARGS="--quick --json out.json")
	@$(BIN)/python bench/$(if $(BASE),compare.py $(BASE),throughput.py) $(ARGS)

bench-aeterna: setup-dev ## Count what upgrades cost beside plain restarts (ARGS as bench/upgrades.py --help says)
	@$(BIN)/python bench/upgrades.py $(ARGS)

house: setup-dev ## Measure the tree: sizes, comments, circles of imports, what is still to do (ARGS="--show services/runner")
	@$(BIN)/python -m tests.house.figures $(ARGS)

lint: setup-dev ## Find mistakes and bad formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .

format: setup-dev ## Mend what lint can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: setup-dev ## Check types
	@$(BIN)/mypy

proto: setup-dev ## Write libs/proto from proto/
	@$(BIN)/python proto/generate.py

proto-check: setup-dev ## Is libs/proto what proto/ says?
	@$(BIN)/python proto/generate.py --check

client: setup-dev ## Write the synchronous client from the asynchronous one
	@$(BIN)/python libs/sdk/generate_client.py

client-check: setup-dev ## Is the synchronous client what the asynchronous one makes?
	@$(BIN)/python libs/sdk/generate_client.py --check

buf: $(BUF) ## Lint the contracts, and break nothing that was released
	@cd proto && $(CURDIR)/$(BUF)/node_modules/.bin/buf lint && $(CURDIR)/$(BUF)/node_modules/.bin/buf breaking --against released.binpb

proto-release: $(BUF) ## Make today's contracts the ones that are not to be broken
	@cd proto && $(CURDIR)/$(BUF)/node_modules/.bin/buf build --exclude-source-info -o released.binpb

helm-lint: $(HELM) ## Lint and render the chart
	@$(HELM)/helm lint helm/aetheris --quiet --strict $(CHART) && $(HELM)/helm template aetheris helm/aetheris $(CHART) >/dev/null

check: ## Everything a change must pass; what CI runs
	@.ci/run

# Three locks, each a part of the one before: working on the tree, running it, and the images. The fourth is for
# `make chaos-ha` alone.
lock: setup-dev ## Pin what the pyprojects ask for (ARGS="--upgrade" for newer versions)
	@$(COMPILE) --group dev $(PROJECTS) -o requirements-dev.lock $(ARGS)
	@$(COMPILE) --constraint requirements-dev.lock --group build $(PACKAGES) -o requirements.lock
	@$(COMPILE) --constraint requirements-dev.lock $(wildcard services/*/pyproject.toml) -o services/requirements.lock
	@$(COMPILE) requirements-ha.in -o requirements-ha.lock $(ARGS)

clean: ## Remove what the tools made; data in .aetheris stays
	@rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis dist uv.lock

# Each tool has its version in its folder's name, so a new version is a new folder.
$(BUF):
	@command -v npm >/dev/null || { echo "buf comes from npm, and there is no npm here" >&2; exit 1; }
	@npm install --silent --no-fund --no-audit --prefix $@.new @bufbuild/buf@1.75.0 && mv $@.new $@

# PostgreSQL does not run as root, and where the tests do, its user must be able to read this Python: not one below /root.
$(HA)/ready: requirements-ha.lock
	@python=$$(command -v /usr/bin/python3 || command -v $(PYTHON)) && $$python -m venv --clear $(HA) && $(HA)/bin/pip install --quiet --require-hashes -r requirements-ha.lock && touch $@

$(HELM):
	@command -v go >/dev/null || { echo "helm is built with go, and there is no go here" >&2; exit 1; }
	@echo "building helm 3.19.0; this takes a few minutes, once" && mkdir -p .tools && GOBIN=$(CURDIR)/$@.new go install helm.sh/helm/v3/cmd/helm@v3.19.0 && mv $@.new $@
