PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make test TESTERS=2`: two processes share the files of tests; many tests wait for servers.
TESTERS ?= 0

CLIENTS := tests/clients/node_modules/.package-lock.json

.PHONY: setup up down test lint check bench soak clean lock clients
.DELETE_ON_ERROR:

setup: $(VENV)/.ready  ## prepare .venv with the atalaia command in it

# pip comes from the bundled wheel; where Debian's python3-venv is missing, get it first (root) or say so.
$(VENV)/.ready: requirements.lock pyproject.toml
	@sh .ci/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

clients: $(CLIENTS)  ## Node's Loki clients and Grafana's LogQL grammar, which tests run against the store

# Their tests say so and are skipped where there is no npm.
$(CLIENTS): tests/clients/package.json tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo "no npm here: the tests of Node's clients will be skipped"; exit 0; }; \
	cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json

up: setup  ## bring the environment up; returns when all is ready
	@$(BIN)/atalaia up

down: setup
	@$(BIN)/atalaia down

lint: setup
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy

test: setup clients lint  ## everything: lint, types, unit, integration, scenario
	$(BIN)/python -m pytest tests --numprocesses=$(TESTERS) --dist=loadfile --durations=30 --durations-min=5

soak: setup clients  ## scenario tests and round trips of queries with the full counts
	ATALAIA_SOAK=1 $(BIN)/python -m pytest -s -o timeout=3600 tests/scenario tests/unit/logql/test_roundtrip.py tests/unit/logql_plan/test_pipelines.py

bench: setup  ## one table of speeds, beside wc, rg and zstd in the same run; ARGS="--against URL" and more
	$(BIN)/python -m bench $(ARGS)

lock: setup  ## renew requirements.lock from pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --strip-extras --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info tests/clients/node_modules
