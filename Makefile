# Everything a person types. Each target sets up what it needs, without root; `make help` lists them.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
WARMFRONT := $(VENV)/bin/warmfront
READY := $(VENV)/.ready
VENV_DEPLOY := .venv-deploy
READY_DEPLOY := $(VENV_DEPLOY)/.ready
VENV_AUDIT := .venv-audit
BENCH_ARGS ?=
COLD_ARGS ?=
VARIANTS ?= naive,pooled
LAB_ARGS ?=
SERVE_ARGS ?=
TEST_ARGS ?=
RESULT ?= results/bench.json

.PHONY: help setup audit bench bench-full cold cold-login bench-sweep bench-growth pictures bench-emulator bench-observe bench-peer lab test test-slow test-browser test-deploy test-prometheus serve check clean lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: $(READY) ## make the virtual environment (done by every other target)

# Exact versions with hashes; binary packages only, so that nothing needs a compiler. uv where pip can bring it, else pip alone.
$(READY): requirements.lock pyproject.toml shared/requirements.txt tools/setup
	@tools/setup $(VENV)
	@touch $@

bench: $(READY) ## naive against pooled, cold against warm: the verdict in 3 minutes (BENCH_ARGS="--quick" for one, VARIANTS=... for others)
	@mkdir -p results
	$(WARMFRONT) bench --output $(RESULT) --variants $(VARIANTS) $(BENCH_ARGS)

bench-full: $(READY) ## the same with longer blocks and more rounds, and every table (about 7 minutes)
	@mkdir -p results
	$(WARMFRONT) bench --full --details --output $(RESULT) --variants $(VARIANTS) $(BENCH_ARGS)

bench-sweep: $(READY) ## the knee of each variant: throughput and p99 against the offered rate, models over it (about 4 minutes)
	@mkdir -p results
	$(WARMFRONT) bench --sweep --output results/sweep.json --variants $(VARIANTS) $(BENCH_ARGS)

bench-growth: $(READY) ## the same reads at 10,000 to 1,000,000 rows and beside 1 to 200 environments (5 minutes)
	@mkdir -p results
	$(WARMFRONT) bench --growth --output results/growth.json --variants $(VARIANTS) $(BENCH_ARGS)

bench-observe: $(READY) ## what observation costs: throughput with it and without, interleaved
	$(WARMFRONT) overhead observe --open $(BENCH_ARGS)

cold: $(READY) ## first invocations taken apart, four ways to start, naive, pooled and distributed (COLD_ARGS="--ramp --thaw" for more)
	@mkdir -p results
	$(WARMFRONT) cold Naive Pooled Distributed --ways all --output results/cold.json $(COLD_ARGS)

cold-login: $(READY) ## first request with a login by secret, as deployed, beside a login in the URL (COLD_ARGS="--n 30")
	@mkdir -p results
	$(PY) -m tools.cold_login --output results/cold-login.json $(COLD_ARGS)

bench-emulator: $(READY) ## what the emulator itself costs, beside a bare Starlette route
	$(WARMFRONT) overhead emulator $(BENCH_ARGS)

bench-peer: $(READY) ## the same beside serverless-offline, which npm brings into .peer/ (needs node)
	@command -v npm >/dev/null || { echo "make bench-peer needs node and npm on PATH (Debian: apt-get install npm)" >&2; exit 1; }
	@mkdir -p .peer && cp local/warmfront/bench/overhead/peer/package.json .peer/
	npm install --prefix .peer --no-package-lock --no-audit --no-fund --loglevel=error
	$(WARMFRONT) overhead emulator --peer .peer $(BENCH_ARGS)

# Strict: a package that the database does not know counts as a failure, not as clean.
audit: $(READY) ## known vulnerabilities in what is locked (pip-audit; asks PyPI's database, so it needs the network)
	@test -x $(VENV_AUDIT)/bin/pip-audit || { $(PY) -m venv $(VENV_AUDIT) && $(VENV_AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1; }
	$(VENV_AUDIT)/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict

pictures: $(READY) ## the pictures in docs again, from results/bench.json and results/sweep.json
	$(WARMFRONT) report results/bench.json --png docs/pictures --dpi 90 --pictures ratios,percentiles-product,cost
	$(WARMFRONT) report results/sweep.json --png docs/pictures --dpi 90 --pictures knee

lab: $(READY) ## break the shop on purpose, every experiment once (LAB_ARGS="--variant pooled" for one)
	@mkdir -p results
	$(WARMFRONT) lab run --all --output results/lab.json $(LAB_ARGS)

test: $(READY) ## all tests but stress, deploy, browser and prometheus
	$(PY) -m pytest -m "not stress and not deploy and not browser and not prometheus" $(TEST_ARGS)

test-slow: $(READY) ## stress and mutation tests (half an hour; LAB_EXPERIMENTS="B1 C7" for a few of the lab's)
	$(PY) -m pytest -s -m stress $(TEST_ARGS)

test-browser: $(READY) ## pages in a headless Chromium
	@command -v chromium >/dev/null || { echo "make test-browser needs chromium on PATH (Debian: apt-get install chromium)" >&2; exit 1; }
	$(PY) -m pytest -m browser $(TEST_ARGS)

test-prometheus: $(READY) ## alert rules under promtool, and in a real Prometheus that scrapes the emulator (a minute)
	@command -v promtool >/dev/null && command -v prometheus >/dev/null || { echo "make test-prometheus needs promtool and prometheus on PATH (Debian: apt-get install prometheus)" >&2; exit 1; }
	$(PY) -m pytest -m prometheus $(TEST_ARGS) tests/emulator/observe

test-deploy: $(READY) $(READY_DEPLOY) ## build, check and deploy with SAM CLI to an account on loopback (4 minutes)
	$(PY) -m pytest -m deploy $(TEST_ARGS) tests/deploy

$(READY_DEPLOY): requirements-deploy.lock tools/setup-deploy | $(READY)
	@tools/setup-deploy $(VENV_DEPLOY)
	@touch $@

serve: $(READY) ## serve template.yaml on http://127.0.0.1:3000
	$(WARMFRONT) serve $(SERVE_ARGS)

check: $(READY) ## ruff, mypy --strict and the architecture test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -q tests/architecture

lock: $(READY) ## resolve requirements.lock again from pyproject.toml
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.12 --generate-hashes --extra bench --extra debug --extra dev pyproject.toml -o requirements.lock

clean: ## remove everything that make made
	rm -rf $(VENV) .venv-* .peer .warmfront results .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
