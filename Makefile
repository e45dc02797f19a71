# Needs python3 (3.10 or newer), pip and make. Everything is installed into .venv, at the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# Python compiles what is imported; to compile everything would take longer than to install it.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# The longest task comes first: two of them run at a time.
GALLERY := carry-student mqnli-student two-choice-student carry mqnli mnist-pvr vision-vit vision-resnet two-choice equality-program equality-student handset
OFFLINE := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help install quickstart gallery test check format docs clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv .venv

# torch comes first and alone, so that no dependency can draw another version of it.
.venv/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) torch
	$(INSTALL) --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --editable .[dev,docs]
	touch $@

.venv/.installed-docs: .venv/.installed
	$(INSTALL) --editable .[docs]
	touch $@

install: .venv/.installed-dev ## Install the package and the tools of its developers into .venv

quickstart: .venv/.installed ## Show both answers, then train, verify and report the embedded example
	if test -d runs/demo; then $(BIN)/iit-toolkit ls runs/demo; else $(BIN)/iit-toolkit demo; fi
	$(BIN)/iit-toolkit run quickstart --resume

gallery: .venv/.installed ## Train and verify the gallery: programs as teachers
	printf '%s\n' $(GALLERY) | $(OFFLINE) xargs -n 1 -P 2 $(BIN)/python experiments/gallery/run.py --tasks
	$(BIN)/python -m analysis.gallery

test: .venv/.installed-dev ## Run the whole test suite
	$(OFFLINE) $(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.installed-dev ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/.installed-dev ## Format the code and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.installed-docs ## Build the documentation into site/, and fail at any broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove everything that was built, .venv included
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
