# mediaweave: `make demo` shows the main job, `make test` proves it. Both need Python and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-data

.DEFAULT_GOAL := help
.PHONY: help install dev demo test conformance test-faults storm lint \
  format bench bench-queue bench-fetch bench-infer bench-split bench-shots bench-fusion fuzz-split clean

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

test: dev ## everything that proves it, on private servers, by JOBS=2; the first run fetches packages
	@$(BIN)/python -m workers.demo.media $(DEMO)
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

conformance: dev ## splitting, on media of known content: MEDIA=folder, ../shared/media, or its own
	$(if $(MEDIA),MEDIAWEAVE_TEST_MEDIA=$(MEDIA)) $(BIN)/python -m pytest tests/conformance $(PYTEST_ARGS)

test-faults: dev ## everything is killed, cut, wiped and filled, on real servers
	@$(BIN)/python -m workers.demo.media $(DEMO)
	$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

storm: dev ## a fault every few seconds, for STORM_SECONDS over STORM_ASSETS; STORM_SEED repeats one
	@$(BIN)/python -m workers.demo.media $(DEMO)
	STORM_ASSETS=$(or $(STORM_ASSETS),300) STORM_SECONDS=$(or $(STORM_SECONDS),300) STORM_SEED=$(STORM_SEED) \
	  $(BIN)/python -m pytest tests/faults/test_storm.py -s $(PYTEST_ARGS)

fuzz-split: dev ## CASES=2000 damaged files are split, by SEED, from START, by JOBS; REPLAY=file runs one again
	@PYTHONPATH=.:tests $(BIN)/python -m bench.fuzz_split $(if $(REPLAY),--replay $(REPLAY),--cases $(or $(CASES),2000) \
	  --seed $(or $(SEED),1) --start $(or $(START),0) --jobs $(or $(JOBS),2))

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

bench-fetch: dev ## one stream from S3 against ranges, far away and near; JSON=path writes the figures
	@PYTHONPATH=.:tests $(BIN)/python -m bench.fetch $(if $(JSON),--json $(JSON))

bench-infer: dev ## the model runtime beside the bare models; DEVICE=cuda:0, ROUNDS=3, JSON=path
	@$(BIN)/python -m bench.infer $(if $(DEVICE),--device $(DEVICE)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(JSON),--json $(JSON))

bench-shots: dev ## shots found and CPU spent beside PySceneDetect's detectors; JSON=path writes the figures
	@$(BIN)/python -m workers.demo.media $(DEMO)
	@$(BIN)/python -m bench.shots $(DEMO)/samples $(if $(JSON),--json $(JSON))

bench-split: dev ## splitting beside decoding: CPU, memory, ranges, fast mode; PEERS=1, ROUNDS=3, ONLY=cost, JSON=path
	@$(BIN)/python -m bench.split $(DEMO) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(PEERS),--peers) $(if $(JSON),--json $(JSON))

bench-fusion: dev ## every fuser trained on pairs of picture and sound; SEEDS=5, ONLY=dev, DATA=folder, JOBS=2, FOLDER=kept, JSON=path
	@$(BIN)/python -m bench.fusion $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(FOLDER),--folder $(FOLDER)) $(if $(JSON),--json $(JSON))

clean: ## remove the environment and the demo's data
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
