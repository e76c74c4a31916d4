# animeflow: every target does its own set-up. It needs Python >= 3.11 with venv, git and make; nothing else.
#
# Settings, on the command line or in the environment:
#   PYTHON=python3.12   the interpreter that makes the virtual environment (default: the first of 3.11, 3.12, python3 that fits)
#   VENV=.venv          where that environment lives
#   FAMILY=NAME         the family of models that make demo trains; "animeflow demo --help" lists them
#   ARGS="..."          passed on to the program of the target: make demo ARGS=--fast, make test ARGS="-k bucket"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PYTHON ?=
ARGS ?=
FAST ?=
FAMILY ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help setup demo tiny-bases test lint format type wheel wheel-check clean

help: ## Show this list
	@echo 'animeflow: from pictures to a model file that other programs load'
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)$$/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo 'Start with "make demo". The first target you run prepares $(VENV) (a few minutes); later ones reuse it.'
	@echo 'Settings: PYTHON=python3.12  VENV=.venv  ARGS="..." (passed on)  FAST=1 (a short demo)  FAMILY=NAME (of the demo)'

setup: $(READY) ## Make the virtual environment with the pinned packages (every other target does it too)

demo: $(READY) ## Draw pictures, train on them, export, sample, report: the whole path (FAST=1: a minute instead of ten)
	$(BIN)/animeflow demo $(if $(filter-out 0,$(FAST)),--fast) $(if $(FAMILY),--family $(FAMILY)) $(ARGS)

# Both demos, about a quarter of an hour on two cores; what they trained replaces the small models that the package carries.
tiny-bases: $(READY) ## Train the bases of "lora --tiny" and their oracle again
	@place=$$(mktemp -d) && binaries=$$(realpath $(BIN)) && here=$$PWD && cd $$place && \
	  $$binaries/animeflow demo && $$binaries/animeflow demo --family anima && \
	  cd $$here && $$binaries/python scripts/tiny_bases.py $$place && rm -rf $$place

# Two processes with one OpenMP thread each: two threads of one process spin against each other on a small busy machine.
# A file stays with one process, so that its fixtures are made once.
test: $(READY) ## Run the tests (ARGS="tests/flow -k euler" for some of them, ARGS="-n 0" for one process)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(READY) ## Check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(READY) ## Check types with mypy
	$(BIN)/mypy

wheel: $(READY) ## Build dist/animeflow-*.whl, which carries configs/
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist

wheel-check: wheel ## Install that wheel in a clean environment and run its demo from an empty folder
	scripts/check_wheel.sh dist/animeflow-*.whl

clean: ## Remove what the other targets made here: environment, builds, caches (runs/ stays: it is yours)
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than what it was made from: a changed pin or dependency installs again, anything else does not.
$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then \
	  python=$$(PYTHON='$(PYTHON)' scripts/find_python.sh); \
	  echo "Making $(VENV) with $$python ($$($$python --version))"; \
	  $$python -m venv $(VENV); \
	fi
	@echo 'Installing the pinned packages into $(VENV). The first time this takes a few minutes: torch is large.'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
