# Every target makes its own virtual environment when it is missing or out of date.
#   make demo    digits that come with scikit-learn: train, measure, index, search, report
#   make test    the default tests          make lint    style, types, layers
#   make bench   speed against peers        make docs    the site, into site/
#   make peers-tabular    metric-learn with the scikit-learn it works with, for the grid of tables

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs venv peers-tabular clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.dev
	$(BIN)/tupelo demo --out runs/demo

# One thread a process: the processes already fill the cores.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/training.py

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

venv: $(VENV)/.dev

peers-tabular: $(VENV)-peers-tabular/.made

$(VENV)-peers-tabular/.made: benchmarks/peers-tabular.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-peers-tabular site dist

# The stamps: one per set of extras, older than what they were installed from means install again.
$(VENV)/.dev: EXTRAS = dev
$(VENV)/.docs: EXTRAS = docs
$(VENV)/.peers: EXTRAS = peers
$(VENV)/.docs $(VENV)/.peers: $(VENV)/.dev

$(VENV)/.dev $(VENV)/.docs $(VENV)/.peers: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  version=$$($(PYTHON) --version 2>/dev/null) || version="not there"; \
	  echo "Tupelo needs Python 3.11 or newer; '$(PYTHON)' is $$version." >&2; \
	  echo "Name another one: make PYTHON=python3.12 <target>" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
