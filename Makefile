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
# the same for a fleet on this machine and for one in containers
fleet := sh tools/fleet.sh

help: ## this list
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z]+:[^#]*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# The Python environment in .venv, made again only when what it is made of changes, in three layers that each add: what the
# fleet runs on, what the market adds, and all that tests and lint want.
runnable:
	@sh tools/environment.sh run

stationed:
	@sh tools/environment.sh market

environment:
	@sh tools/environment.sh dev

run: runnable ## two real Redis servers and the whole fleet on this machine; Ctrl-C ends it
	@exec $(marketswarm) up $(ARGS)

market: stationed ## the market station on this machine: a PostgreSQL, sources, bars, archive and board, by a recording
	@exec $(marketswarm) up --truth $${TRUTH_PATH:-examples/market.json} $(ARGS)

up: ## the same in containers: builds the image, starts all, waits until all are well; HEALING=1 lets medic restart what hangs, DEV=1 reloads code, TLS=1 puts HTTPS in front
	@exec $(fleet) up $(ARGS) $(SVC)

down: ## end the containers; ARGS=-v removes the data too
	@exec $(fleet) down $(ARGS)

ps: ## the containers, and how they are
	@exec $(fleet) ps $(ARGS) $(SVC)

logs: ## what the containers say; SVC=healer for one
	@exec $(fleet) logs $(ARGS) $(SVC)

# What tests import is compiled once, whatever the shell says of it: a run is of many processes.
pytest := unset PYTHONDONTWRITEBYTECODE; exec $(bin)/python -m pytest

# What starts nothing wants a worker a processor: less than a fifth of the time is waited for a clock, and one more worker
# would take longer to collect all tests than it fills. Properties are tried on ten examples; `make test` tries twenty.
unit: environment ## the tests that start no process and no server, in less than a minute: ARGS="-k detector" for some
	@export HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-brief}; \
		$(pytest) -q -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal --apart \
		-m "unit and not slow" --ignore=tests/live $(ARGS)

test: environment ## all that proves the product, in four to twelve minutes: ARGS="-k notifier", ARGS=tests/marketswarm or ARGS=--lf for some
	@$(pytest) -n auto --dist worksteal --apart $(ARGS)

# these tests wait more than they work: four of them for a processor
faults: environment ## the fault matrix on real servers; TIMES=10 rounds, ended by the first red one
	@for round in $$(seq $(TIMES)); do \
		begun=$$(date +%s); \
		$(bin)/python -m pytest -n $$(( 4 * $$(getconf _NPROCESSORS_ONLN) )) --dist worksteal -q tests/faults $(ARGS) || exit; \
		echo "== round $$round of $(TIMES) is green, in $$(($$(date +%s) - begun)) s"; \
	done

containertest: environment ## the fleet of compose.yaml on a container engine, broken in every way; ARGS="-k upgrade" for some
	@$(pytest) -n 2 --dist loadscope tests/compose $(ARGS)

boardtest: environment ## the board on real fleets, its pages in a browser; needs chromium; ARGS="-k phone" for some
	@$(pytest) -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal tests/board $(ARGS)

markettest: environment ## the services of the market on real servers: feeds, sources, bars, the archive; ARGS="-k feed" for some
	@$(pytest) -n $$(( 3 * $$(getconf _NPROCESSORS_ONLN) )) --dist worksteal tests/market tests/archive $(ARGS)

servertest: environment ## fleets on other kinds of Redis: users, TLS, Sentinel, Cluster; ARGS="-k tls" for some
	@$(pytest) -n auto --dist worksteal tests/servers $(ARGS)

deploytest: environment ## the manifests, the units and what containers start with; needs kubectl and systemd-analyze
	@$(pytest) -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal tests/deploy tests/systemd $(ARGS)

imagetest: ## unit and live tests on the Python of the image: ARGS="-k notifier" or ARGS=tests/live for some
	@image=$$(docker build --quiet --target test .) && \
		exec docker run --rm --init --env HYPOTHESIS_PROFILE $$image \
			python -m pytest -n auto --dist worksteal --apart $(ARGS)

nightly: ## what takes longer than .ci/run may: variants, explored properties, the image, soak, kills, load
	@exec bash .ci/nightly

variants: environment ## the tests that only make nightly runs: ARGS="-k clock" or ARGS=tests/faults for some
	@$(pytest) -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal --nightly -m nightly --ignore=tests/compose --ignore=tests/board $(ARGS)

coverage: environment ## what share of the product's lines and branches tests run, and the page of it in htmlcov/: ARGS=tests/notifier for a part
	@$(bin)/coverage erase
	@unset PYTHONDONTWRITEBYTECODE; $(bin)/coverage run -m pytest -q -n auto --dist worksteal --apart $(ARGS)
	@$(bin)/coverage combine --quiet
	@$(bin)/coverage html --quiet
	@$(bin)/coverage report --skip-covered --sort=cover $(FLOOR)

count: environment ## lines of code and their budgets, circles of folders, small modules, callbacks, unsaid effects, mechanisms
	@exec $(bin)/python tools/count.py

breaks: environment ## break the product in many ways, and see tests of every run fail; ARGS="--only board" for some
	@exec $(bin)/python tools/breaks.py $(ARGS)

lint: environment ## style (ruff) and types (mypy, strict)
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy

fmt: environment ## put the code into its format, and mend what can be mended
	@$(bin)/ruff check --fix-only
	@$(bin)/ruff format

validate: runnable ## check truth.json, without any server; ARGS=other.json for another
	@exec $(marketswarm) validate $(ARGS)

seed: ## put truth.json into both buses; running agents follow it at once
	@exec $(fleet) seed $(ARGS)

status: ## who is up and who is down; ARGS=--watch keeps it on the screen
	@exec $(fleet) status $(ARGS)

alerts: ## follow the alerts; ARGS="--since 1h" begins in the past
	@exec $(fleet) alerts $(ARGS)

health: ## the latest word on each service; ARGS=rss_agg for one
	@exec $(fleet) health $(ARGS)

smoke: ## half a minute, red or green: is all well, from the buses to the board's charts? ARGS=--json
	@exec $(fleet) doctor $(ARGS)

simulate: ## a failure: stop SVC=rss_agg, wait for its miss, start it, wait for its ok
	@test -n "$(SVC)" || { echo "which one? make simulate SVC=rss_agg" >&2; exit 2; }
	@exec $(fleet) simulate $(SVC) $(ARGS)

kubernetes: runnable ## the truth, users and passwords for deploy/k8s, as files in deploy/k8s/fleet
	@sh tools/kubernetes.sh

fuzz: environment ## a million hostile inputs; ARGS="--cases 5000 --seed 7 --only beat" for some
	@PYTHONPATH=tests exec $(bin)/python -m support.fuzz $(ARGS)

bench: environment ## the figures of docs/performance.md, each as a ratio to a bare program: ARGS="heard notes" for some
	@exec $(bin)/python -m bench $(ARGS)

benchcheck: environment ## what got slower than the figures of docs/performance.md, by over 20 %: ARGS=heard for one
	@exec $(bin)/python -m bench --check $(ARGS)

faultgym: environment ## faults in real fleets, and what medic does about them, as a table; ARGS="--seeds 1 --only frozen"
	@exec $(bin)/python -m bench.faultgym $(ARGS)

soak: environment ## a fleet under random faults, and an account that must balance; ARGS="--minutes 30 --seed 7"
	@PYTHONPATH=tests exec $(bin)/python -m soak $(ARGS)

boardload: environment ## a hundred browsers on a board, and what it costs; needs chromium; ARGS="--minutes 1 --kill"
	@PYTHONPATH=tests exec $(bin)/python -m boardload $(ARGS)

marketproof: environment ## the market under kills, and a batch that every row must equal; ARGS="--kills 100 --seed 7"
	@PYTHONPATH=tests exec $(bin)/python -m marketproof $(ARGS)

lock: ## remake the lock files from pyproject.toml (needs uv); ARGS=--upgrade for newer versions
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	@uv pip compile pyproject.toml --extra embedded --extra services --extra market --extra archive --extra signals --group dev --universal --generate-hashes \
		--no-emit-index-url --python-version 3.11 --quiet -o requirements.lock $(ARGS)
	@uv pip compile pyproject.toml --extra embedded-bus --extra services --group build --constraint requirements.lock --universal \
		--generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet -o requirements-run.lock
	@uv pip compile pyproject.toml --extra embedded --extra services --extra market --extra archive --extra signals --group build \
		--constraint requirements.lock --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet \
		-o requirements-market.lock
	@uv pip compile --group supply --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet \
		-o tools/supply.lock $(ARGS)
	@uv pip compile --group clients --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet \
		-o tools/clients.lock $(ARGS)
	@uv pip compile pyproject.toml --extra services --extra market --extra archive --extra signals --constraint requirements.lock --universal --generate-hashes \
		--no-emit-index-url --no-annotate --python-version 3.13 --quiet -o requirements-image.lock

audit: ## hold requirements.lock against the known vulnerabilities, where an index answers
	@sh tools/supply.sh audit

sbom: ## what the product is made of, as CycloneDX in dist/
	@sh tools/supply.sh sbom

clean: ## remove the environment and caches; the fleet's data in .marketswarm/ stays
	@rm -rf .venv .venv.log .venv.making .venv.supply .venv.supply.log .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help runnable stationed environment run market up down ps logs unit test faults containertest boardtest markettest servertest deploytest imagetest nightly variants count breaks coverage lint fmt validate seed status alerts health smoke simulate kubernetes fuzz bench benchcheck faultgym soak boardload marketproof lock audit sbom clean
