# Every command of this project. Values may be given on the command line: make demo PORT=8001 SPEED=600
PYTHON ?= python3
PORT ?= 8000
REPLAY ?=
SPEED ?=
TIER ?=
SEED ?=
SEEDS ?= 300
SIGNALS ?= 10000
ROW ?=
WRITE ?=
HOURS ?= 1
FACTOR ?= 1
EXAMPLES ?= 2000
DETACH ?=
NEW_SESSION ?=
N ?= 1000000
ARGS ?=

BIN = .venv/bin
RUN = PATH="$(CURDIR)/$(BIN):$$PATH"
STACK = $(BIN)/python manage.py stack
SERVERS = $(BIN)/python -m apps.ops.embedded exec --temporary --
UP = --port $(PORT) $(if $(TIER),--tier $(TIER)) $(if $(DETACH),--detach)$(if $(NEW_SESSION), --new-session)
DEMO = $(if $(REPLAY),--replay $(REPLAY)) $(if $(SPEED),--speed $(SPEED)) $(if $(SEED),--seed $(SEED))
PIP_COMPILE = $(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-find-links \
	--no-emit-index-url --no-emit-trusted-host
BENCH = .venv-bench/bin
PAGES = requirements/npm/node_modules/.installed
STARTED := $(shell date +%s)

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo up down restart status logs doctor test test-stack test-road fuzz fmt bench lock
.PHONY: faults storm faults-feed soak prove-engine check check-lint check-imports check-django check-dependencies prove-orders

help: ## This list
	@awk '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	/^[a-z%-]+:.*## / { name = $$1; sub(":", "", name); sub(".*## ", ""); printf "  make %-12s %s\n", name, $$0 }' Makefile

##@ Run it
demo: .venv/installed-base $(PAGES) ## Trade on a market of this machine [PORT= REPLAY=file,file SPEED= TIER= SEED= DETACH=1 NEW_SESSION=1]
	@echo "set-up (download and installation): $$(( $$(date +%s) - $(STARTED) )) s"
	@$(STACK) up --mode demo $(UP) $(DEMO)

up: .venv/installed-base $(PAGES) ## Trade on paper on the exchange's real market data [PORT= TIER= DETACH=1]
	@$(STACK) up --mode live $(UP)

down: ## Stop everything that demo or up started
	@$(STACK) down

restart: ## Stop and start again, with the same options
	@$(STACK) restart

status: ## Is everything running, and must you act?
	@$(STACK) status

logs: ## Follow the logs [ARGS="ingest -n 100"]
	@$(STACK) logs -f $(ARGS)

doctor: ## Check this machine and the data directory, and say what to do
	@$(STACK) doctor

##@ Work on it
install: .venv/installed-base $(PAGES) ## Python environment and front-end libraries for running

install-dev: .venv/installed-dev $(PAGES)-dev ## The same and what tests and checks need

test: install-dev ## All tests on a PostgreSQL and a Valkey of their own [ARGS="tests/engine -x"]
	@$(RUN) .ci/test $(ARGS)

test-stack: install-dev ## The libraries' measured pitfalls; run it when a pin changes
	@$(RUN) $(SERVERS) $(BIN)/pytest -m stack $(ARGS)

fuzz: install-dev ## Damaged frames through the decoder and the checks [N=1000000 SEED=1]
	@$(BIN)/python -m tests.fuzz $(N) $(SEED)

test-road: install-dev ## Whole stacks, replays, kills (long)
	@$(RUN) $(BIN)/pytest -m road $(ARGS)

faults: install-dev ## Every row of the fault matrix on real processes [ROW=P4 SEED=7 WRITE=1], or seeded faults [SEEDS=200 FIRST=1]
	@$(RUN) $(if $(filter file,$(origin SEEDS)),\
		$(BIN)/python -m tests.faults.matrix $(if $(SEED),--seed $(SEED)) $(if $(ROW),--row $(ROW)) $(if $(WRITE),--write) $(ARGS),\
		$(BIN)/python -m tests.faults.matrix_seeds --seeds $(SEEDS) $(if $(FIRST),--first $(FIRST)) \
		--held "$${CDB_DATA_DIR:-var}/faults-held.jsonl" $(ARGS))

faults-feed: install-dev ## Seeded faults of the feed, judged by ground truth [SEEDS=300, or SEED=7 for one]
	@$(RUN) $(SERVERS) $(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

storm: install-dev ## Many signals at once, kills inside the decision, restarts of the database [SIGNALS=10000 SEED=1]
	@$(RUN) $(BIN)/python -m tests.storm --signals $(SIGNALS) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: install-dev ## A long quiet run: nothing lost, nothing growing [HOURS=1 FACTOR=60]
	@$(RUN) $(SERVERS) $(BIN)/python -m tests.faults.soak --hours $(HOURS) --factor $(FACTOR) \
		--figures "$${CDB_DATA_DIR:-var}/bench" $(ARGS)

prove-engine: install-dev ## Live, backtest, what-if and parity agree to the byte [REPLAY=file,file SPEED= SEED= ARGS=--plant]
	@$(RUN) $(BIN)/python -m tests.road.prove $(if $(REPLAY),--trades $(REPLAY)) $(if $(SPEED),--speed $(SPEED)) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

prove-orders: install-dev ## Orders under every interleaving, beside a reference of their books [EXAMPLES=2000]
	@$(RUN) ORDER_EXAMPLES=$(EXAMPLES) ORDER_STEPS=25 .ci/test tests/execution/test_order_machine.py -q -s $(ARGS)

.PHONY: prove-explain
prove-explain: install-dev ## Each of N=10000 signals ends in one reason, every number worked out again [N= SEED=]
	@EXPLAIN_SIGNALS=$(if $(findstring command,$(origin N)),$(N),10000) $(if $(SEED),EXPLAIN_SEED=$(SEED)) $(RUN) .ci/test tests/ops/test_explain_many.py -s -q

check: check-lint check-imports check-django check-dependencies ## Lint, types, import order, migrations, dependencies

check-lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-imports: install-dev
	$(BIN)/lint-imports

# The type checker reads Django's models, and for that the settings, which need secrets.
check-django: install-dev
	$(SERVERS) sh -c '$(BIN)/python manage.py check --fail-level WARNING \
		&& $(BIN)/python manage.py makemigrations --check --dry-run && $(BIN)/mypy'

check-dependencies: install-dev
	$(BIN)/python .ci/locks.py
	$(BIN)/python .ci/audit.py requirements/base.txt

fmt: install-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev .venv-bench/installed ## All benchmarks
	@$(RUN) $(BIN)/python -m tests.bench all $(ARGS)

bench-%: install-dev ## One benchmark; writes bench/NAME.json in the data directory
	@$(RUN) $(BIN)/python -m tests.bench $* $(ARGS)

# The other engines that ours is measured beside bring pins of their own, so they live apart from it.
bench-engine: .venv-bench/installed

lock: install-dev ## Pin the newest allowed versions with their hashes
	$(PIP_COMPILE) --upgrade --output-file=requirements/base.txt requirements/base.in
	$(PIP_COMPILE) --upgrade --output-file=requirements/dev.txt requirements/dev.in
	$(PIP_COMPILE) --upgrade --output-file=requirements/bench.txt requirements/bench.in

# A stamp file says what was installed from; it is newer than the lock file, or the installation is made again.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed-base: requirements/base.txt | .venv/bin/python
	$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements/base.txt
	@touch $@

.venv/installed-dev: requirements/dev.txt .venv/installed-base
	$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

.venv-bench/installed: requirements/bench.txt | .venv/bin/python
	test -x $(BENCH)/python || $(BIN)/python -m venv .venv-bench
	$(BENCH)/pip install -qq --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

# `npm ci` empties its folder first, stamps included. Node trusts the certificates of this machine, as pip does.
$(PAGES): requirements/npm/package-lock.json | .venv/installed-base
	$(RUN) NODE_USE_SYSTEM_CA=1 npm ci --omit=dev --prefix requirements/npm --loglevel=error
	@touch $@

$(PAGES)-dev: $(PAGES)
	$(RUN) NODE_USE_SYSTEM_CA=1 npm ci --prefix requirements/npm --loglevel=error
	@touch $(PAGES) $@
