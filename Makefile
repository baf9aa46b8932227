# mediaweave: `make demo` shows the main job, `make test` proves it. Both need Python and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-data

.DEFAULT_GOAL := help
.PHONY: help install dev demo test test-faults storm lint format bench bench-queue clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(VENV)/installed ## .venv with mediaweave and its offline models

$(VENV)/created: 
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "mediaweave needs Python 3.11 or newer as '$(PYTHON)'; install it (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; install it (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip==26.1.2'
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[offline]' --group demo
	@touch $@

dev: $(VENV)/dev

$(VENV)/dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev
	@touch $@

demo: install ## the main job on sample media: a bucket in, SQL out
	@$(BIN)/python -m workers.demo $(DEMO)

test: dev ## everything that proves it, on private servers; the first run fetches packages
	@$(BIN)/python -m workers.demo.media $(DEMO)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-faults: dev ## everything is killed, cut, wiped and filled, on real servers
	@$(BIN)/python -m workers.demo.media $(DEMO)
	$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

storm: dev ## a fault every few seconds, for STORM_SECONDS over STORM_ASSETS; STORM_SEED repeats one
	@$(BIN)/python -m workers.demo.media $(DEMO)
	STORM_ASSETS=$(or $(STORM_ASSETS),300) STORM_SECONDS=$(or $(STORM_SECONDS),300) STORM_SEED=$(STORM_SEED) \
	  $(BIN)/python -m pytest tests/faults/test_storm.py -s $(PYTEST_ARGS)

lint: dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev ## what the main job costs beside decoder and models; JSON=path writes the figures
	@$(BIN)/python -m workers.demo.media $(DEMO)
	@$(BIN)/python -m bench.main_job $(DEMO)/bucket $(if $(JSON),--json $(JSON))

bench-queue: dev ## the machinery beside bare Celery, COPY and itself when idle; JSON=path writes the figures
	@PYTHONPATH=.:tests $(BIN)/python -m bench.queue $(if $(JSON),--json $(JSON))

clean: ## remove the environment and the demo's data
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
