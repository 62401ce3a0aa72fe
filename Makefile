# What there is to do here. `make` alone lists it. ARGS="…" reaches the program:  make run ARGS="--port 7379"

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
ARGS ?=
TIMES ?= 1

# an empty PYTHON means: find one that is new enough
PYTHON ?=
export PYTHON

bin := .venv/bin
marketswarm := $(bin)/marketswarm

help: ## this list
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z]+:[^#]*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

environment: # the Python environment in .venv, made again only when what it is made of changes
	@sh tools/environment.sh

run: environment ## two real Redis servers and the whole fleet on this machine; Ctrl-C ends it
	@exec $(marketswarm) up $(ARGS)

test: environment ## every test: ARGS="-k notifier" or ARGS=tests/marketswarm for some
	@exec $(bin)/python -m pytest -n auto --dist worksteal $(ARGS)

# these tests wait more than they work: three of them for a processor
faults: environment ## the fault matrix on real servers; TIMES=10 rounds, ended by the first red one
	@for round in $$(seq $(TIMES)); do \
		begun=$$(date +%s); \
		$(bin)/python -m pytest -n $$(( 3 * $$(getconf _NPROCESSORS_ONLN) )) --dist worksteal -q tests/faults $(ARGS) || exit; \
		echo "== round $$round of $(TIMES) is green, in $$(($$(date +%s) - begun)) s"; \
	done

lint: environment ## style (ruff) and types (mypy, strict)
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy

fmt: environment ## put the code into its format, and mend what can be mended
	@$(bin)/ruff check --fix-only
	@$(bin)/ruff format

validate: environment ## check truth.json, without any server; ARGS=other.json for another
	@exec $(marketswarm) validate $(ARGS)

seed: environment ## put truth.json into both buses; running agents follow it at once
	@exec $(marketswarm) seed $(ARGS)

status: environment ## who is up and who is down; ARGS=--watch keeps it on the screen
	@exec $(marketswarm) status $(ARGS)

alerts: environment ## follow the alerts; ARGS="--since 1h" begins in the past
	@exec $(marketswarm) alerts $(ARGS)

health: environment ## the latest word on each service; ARGS=rss_agg for one
	@exec $(marketswarm) health $(ARGS)

simulate: environment ## a failure: stop SVC=rss_agg, wait for its miss, start it, wait for its ok
	@test -n "$(SVC)" || { echo "which one? make simulate SVC=rss_agg" >&2; exit 2; }
	@exec $(marketswarm) simulate $(SVC) $(ARGS)

fuzz: environment ## a million hostile inputs; ARGS="--cases 5000 --seed 7 --only beat" for some
	@exec $(bin)/python tests/hostile.py $(ARGS)

bench: environment ## the figures: beats a second, delay of an alert, memory and CPU
	@exec $(bin)/python -m bench $(ARGS)

soak: environment ## a fleet under random faults, and an account that must balance; ARGS="--minutes 30 --seed 7"
	@PYTHONPATH=tests exec $(bin)/python -m soak $(ARGS)

lock: ## requirements.lock anew from pyproject.toml (needs uv); ARGS=--upgrade for newer versions
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	@uv pip compile pyproject.toml --extra embedded --group dev --universal --generate-hashes \
		--no-emit-index-url --python-version 3.11 --quiet -o requirements.lock $(ARGS)

clean: ## remove the environment and caches; the fleet's data in .marketswarm/ stays
	@rm -rf .venv .venv.log .venv.making .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help environment run test faults lint fmt validate seed status alerts health simulate fuzz bench soak lock clean
