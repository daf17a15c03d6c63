# Everything a developer runs. Works with GNU make 3.81 (macOS) and newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 2379
DATA ?= .data
export PYTHON

BIN := .venv/bin
RUN_STAMP := .venv/.installed-run
DEV_STAMP := .venv/.installed-dev

# A venv does not survive a move of the checkout: then both stamps count as missing.
ifneq ($(shell cat .venv/.home 2>/dev/null),$(CURDIR))
.PHONY: $(RUN_STAMP) $(DEV_STAMP)
endif

$(RUN_STAMP): requirements.lock pyproject.toml sdk/pyproject.toml
	@sh tools/venv.sh run

$(DEV_STAMP): requirements-dev.lock requirements.lock pyproject.toml sdk/pyproject.toml
	@sh tools/venv.sh dev

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:[^#]*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# ---------------------------------------------------------------- using it

# Says at once, before anything is installed, what would stop it.
.PHONY: preflight
preflight:
	@sh tools/venv.sh check "$(PORT)"

# Quick when nothing has changed; where it can't be built, the server runs without it.
.PHONY: dashboard-if-possible
dashboard-if-possible: $(RUN_STAMP)
	@sh tools/dashboard.sh try

.PHONY: run
run: preflight $(RUN_STAMP) dashboard-if-possible ## Serve on http://127.0.0.1:$(PORT): PORT=2379 DATA=.data
	@exec $(BIN)/coordinator serve --data-dir "$(DATA)" \
		--listen-client-urls "http://127.0.0.1:$(PORT)" \
		--advertise-client-urls "http://127.0.0.1:$(PORT)"

.PHONY: cluster
cluster: preflight $(RUN_STAMP) dashboard-if-possible ## Three members on this machine, their logs in one view: PORT= DATA=
	@exec $(BIN)/python -m examples.cluster --port "$(PORT)" --data-dir "$(DATA)"

.PHONY: demo
demo: $(RUN_STAMP) ## Run the order system of examples/ against a running coordinator: PORT=
	@COORDINATOR_ENDPOINTS="$${COORDINATOR_ENDPOINTS:-http://127.0.0.1:$(PORT)}" \
		exec $(BIN)/python -m examples.order_system

.PHONY: dashboard
dashboard: $(RUN_STAMP) ## Build the dashboard that the server shows at /
	@sh tools/dashboard.sh build

# ---------------------------------------------------------------- checking it

# What `make check` looks at, the shape of the project, is not looked at again.
.PHONY: test
test: $(DEV_STAMP) dashboard-if-possible ## Tests without the slow ones: ARGS="-k lease"
	@$(BIN)/python -m pytest -m "not slow" --ignore=tests/shape $(ARGS)

# MARK=slow leaves out what `make test` has run already (.ci/run does both).
.PHONY: test-full
test-full: $(DEV_STAMP) dashboard-if-possible ## All tests, also repeated kills, chaos and large data: MARK= ARGS=
	@$(BIN)/python -m pytest -m "$(MARK)" $(ARGS)

# Recorded outputs are replayed if CONFORMANCE_DIR tells where they are.
.PHONY: compat
compat: $(DEV_STAMP) ## What etcd's users have, against members of this program: ARGS=
	@$(BIN)/python -m pytest tests/compat tests/etcd $(ARGS)

.PHONY: compat-clients
compat-clients: ## Environments with other people's clients of etcd, for `make compat`
	@sh tools/compat_clients.sh .data/compat-clients

.PHONY: compat-upstream
compat-upstream: $(DEV_STAMP) ## Run a checked-out suite of aetcd or python-etcd3: DIR= ARGS=
	@$(BIN)/python -m tests.compat.upstream $(DIR) $(ARGS)

.PHONY: check
check: $(DEV_STAMP) ## Lint, formatting, types, import rules, shape
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/lint-imports --config tools/cycles.toml
	@$(BIN)/python -m pytest -q tests/shape -m "not slow"

.PHONY: fix
fix: $(DEV_STAMP) ## Mend what `make check` can mend by itself
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format
	@$(BIN)/python -m tools.errors_page --write
	@$(BIN)/python -m tools.dashboard_types --write

.PHONY: ci
ci: ## What the build server runs
	@exec .ci/run

# ---------------------------------------------------------------- measuring and hunting

.PHONY: bench
bench: $(DEV_STAMP) ## Measure: ARGS= CHECK=1 (exit 1 below a floor)
	@$(BIN)/python -m tests.bench $(if $(CHECK),--check) $(ARGS)

.PHONY: bench-peers
bench-peers: $(DEV_STAMP) ## Measure etcd, Redis and ZooKeeper beside this: ARGS= CHECK=1 (exit 1 off a goal)
	@sh tools/bench_peers.sh .data/bench-peers
	@$(BIN)/python -m tests.bench.peers $(if $(CHECK),--check) $(ARGS)

.PHONY: drill
drill: $(DEV_STAMP) ## One timed scenario: NAME=powercut CHECK=1 ARGS=
	@$(BIN)/python -m tests.drill $(NAME) $(if $(CHECK),--check) $(ARGS)

.PHONY: pictures
pictures: $(DEV_STAMP) dashboard-if-possible ## Take the pictures of the dashboard that the pages show, into docs/img
	@$(BIN)/python -m tests.dashboard.pictures $(ARGS)

.PHONY: fuzz-api
fuzz-api: $(DEV_STAMP) ## Ask every route what nobody meant, and look for server errors: N=100 ARGS=
	@PYTHON=$(BIN)/python sh tools/fuzz_api.sh $(if $(N),$(N),100) $(ARGS)

.PHONY: sim
sim: $(DEV_STAMP) ## Replay one seed in the simulator: SEED=1 ARGS=
	@$(BIN)/python -m tests.simulation --seed $(if $(SEED),$(SEED),1) $(ARGS)

.PHONY: soak
soak: $(DEV_STAMP) ## Run many seeds and print what happened: SEEDS=100 FROM=1 JOBS=1 RESUME=file
	@$(BIN)/python -m tests.simulation --seeds $(if $(SEEDS),$(SEEDS),100) --from $(if $(FROM),$(FROM),1) --jobs $(if $(JOBS),$(JOBS),1) $(if $(RESUME),--resume "$(RESUME)") $(ARGS)

.PHONY: mutants
mutants: $(DEV_STAMP) ## Plant mistakes in the simulator and hunt them: SEEDS=100 NAME="lose rows"
	@$(BIN)/python -m tests.simulation --seeds $(if $(SEEDS),$(SEEDS),100) --mutants $(if $(NAME),"$(NAME)")

.PHONY: raft-referee
raft-referee: $(DEV_STAMP) ## Compare the Raft core with recorded transcripts: DIR=
	@$(BIN)/python -m tests.raft.referee $(DIR)

# ---------------------------------------------------------------- keeping it

.PHONY: dist
dist: $(DEV_STAMP) dashboard ## Both wheels and source archives, into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist sdk
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@ls -l dist

.PHONY: lock
lock: $(DEV_STAMP) ## Resolve the dependencies anew and write both lock files: ARGS=--upgrade
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/lock.sh $(ARGS)

.PHONY: system-deps
system-deps: ## Install what a few tests want of the system (Debian, Ubuntu); nothing else does
	@sh tools/system_deps.sh

.PHONY: clean
clean: ## Remove what building and testing left; keeps DATA
	@rm -rf .venv dist build sdk/dist dashboards/web/dist dashboards/web/node_modules .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
