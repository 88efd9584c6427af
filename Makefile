# Everything a newcomer types. Needs Python 3.11, make and PyPI; `make install` prepares .venv from the lock.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test test-all lint types layers lock schema clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## Prepare .venv from the lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install  ## Tokenize the demo: texts into .out/demo, pictures into .out/images, sounds into .out/audio, modules into .out/ir
	$(BIN)/python -m flows run examples/jobs/demo.yaml
	$(BIN)/python -m flows run examples/jobs/images.yaml
	$(BIN)/python -m flows run examples/jobs/audio.yaml
	$(BIN)/python -m flows run examples/jobs/ir.yaml

test: install lint types layers  ## Lint, check types and layers, run the tests
	$(BIN)/python -m pytest

test-all: install lint types layers  ## The same with the slow suites: long kill tests and fuzzing
	$(BIN)/python -m pytest -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

layers: install
	$(BIN)/lint-imports

lock:  ## Resolve the lock file anew (needs uv)
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --output-file requirements.lock --no-header

schema: install  ## Write the job schema for editors
	$(BIN)/python -m flows schema > docs/job.schema.json

clean:  ## Remove what the targets above made
	rm -rf $(VENV) .out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
