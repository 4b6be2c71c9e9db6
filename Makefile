PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup up down test lint check bench soak clean lock
.DELETE_ON_ERROR:

setup: $(VENV)/.ready  ## prepare .venv with the atalaia command in it

# pip comes from the bundled wheel; where Debian's python3-venv is missing, get it first (root) or say so.
$(VENV)/.ready: requirements.lock pyproject.toml
	@sh .ci/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

up: setup  ## bring the environment up; returns when all is ready
	@$(BIN)/atalaia up

down: setup
	@$(BIN)/atalaia down

lint: setup
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy

test: setup lint  ## everything: lint, types, unit, integration, scenario
	$(BIN)/python -m pytest tests

soak: setup  ## scenario tests with the full counts
	ATALAIA_SOAK=1 $(BIN)/python -m pytest -s -o timeout=3600 tests/scenario

bench: setup  ## one table of speeds, beside wc, rg and zstd in the same run; ARGS="--against URL" and more
	$(BIN)/python -m bench $(ARGS)

lock: setup  ## renew requirements.lock from pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --strip-extras --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info
