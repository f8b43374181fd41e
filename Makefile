# What people and CI run; `make help` lists it. Everything is installed into .venv on first use.

PYTHON ?= python3
PORT ?= 8080
PROFILE ?= local
MINUTES ?= 10
SEED ?= 1
ROUNDS ?= 5
STAGES ?= wire outbox modbus
ONLY ?=
ARGS ?=

run := .venv/bin/python
native := $(run) -m deploy.central.native
# The local profile has no stack: who asks for one without naming a profile means dev.
stack := --profile $(PROFILE:local=dev)

.DEFAULT_GOAL := help
.PHONY: help demo demo-reset up stack stack-down stack-reset stack-status test peers check fix bench chaos fuzz lock clean

help:  ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

demo: .venv/demo  ## Start building, gateway and central; PORT=8080; PROFILE=dev on real servers
	@exec $(run) -m deploy.local.demo --profile $(PROFILE) --port $(PORT) $(ARGS)

demo-reset: .venv/demo  ## Throw the demo's data away
	@$(run) -m deploy.local.demo --profile $(PROFILE) --reset

up: .venv/demo  ## Run central; PROFILE=dev: real servers, a process a module, looked after
	@exec $(run) -m deploy.central.up --profile $(PROFILE) --port $(PORT) $(ARGS)

stack: .venv/dev  ## Start Kafka, registry, TimescaleDB, Mosquitto; ONLY=kafka,registry; PROFILE=staging
	@$(native) up $(stack) --only "$(ONLY)"

stack-down: .venv/dev  ## End the stack; its data stays
	@$(native) down $(stack)

stack-reset: .venv/dev  ## End the stack and throw its data away
	@$(native) reset $(stack)

stack-status: .venv/dev  ## Show what of the stack runs
	@$(native) status $(stack)

test: .venv/dev  ## Run all tests, with real servers; ARGS="-k name" chooses some
	$(run) -m pytest $(ARGS)

peers: .venv/dev  ## Run the tests against further servers of others, installed on first use; ARGS="-k name"
	$(run) -m pytest -m peers $(ARGS)

check: .venv/dev  ## Look at the code without running it: format, lint, types, imports
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy shared protocols edge central
	.venv/bin/mypy tests bench deploy
	.venv/bin/lint-imports

fix: .venv/dev  ## Mend what a tool can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/dev  ## Measure against baselines into bench/out/latest.json; STAGES="wire outbox modbus"
	$(run) -m bench $(STAGES) --rounds $(ROUNDS)

chaos: .venv/dev  ## Kill and cut for MINUTES=10 with SEED=1, then prove that nothing was lost; PROFILE=dev, staging
	$(run) tests/chaos/run.py --profile $(PROFILE) --minutes $(MINUTES) --seed $(SEED) $(ARGS)

power-cut: .venv/dev  ## Replay 1,000 power cuts on the outbox
	$(run) tests/chaos/power_cut.py --cuts 1000 --seed $(SEED)

fuzz: .venv/dev  ## Fuzz every codec for MINUTES=10 each, two at a time
	SPINE_FUZZ_SECONDS=$$(($(MINUTES) * 60)) $(run) -m pytest tests/fuzz $(ARGS)

lock: .venv/dev  ## Work the lock files out anew from pyproject.toml
	$(run) -m pip install -q uv
	deploy/local/lock.sh

clean:  ## Throw away what was installed and built here
	rm -rf .venv bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "SPINE needs Python 3.11 or newer; name one: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "making .venv …"
	@$(PYTHON) -m venv .venv

.venv/demo: requirements/demo.lock | .venv/bin/python
	@echo "installing what SPINE needs into .venv (once) …"
	@$(run) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/demo.lock
	@touch $@

.venv/dev: requirements/dev.lock | .venv/bin/python
	@echo "installing what SPINE's tests need into .venv (once) …"
	@$(run) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch .venv/demo $@
