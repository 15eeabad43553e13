# Each target sets up what it needs by itself: a virtual environment in .venv, once.
#
#   make demo      synthetic cells from JSON to records, training, report, SavedModel, pictures
#   make check     style, types and the fast tests, under two minutes
#   make test      all tests but the longest
#   make test-all  all tests
#   make bench     every benchmark, one after the other

VENV := .venv
BIN := $(VENV)/bin
# What pip found it tested with; and CUDA's libraries only where an NVIDIA driver answers.
CONSTRAINTS := constraints.txt
EXTRAS := $(shell nvidia-smi >/dev/null 2>&1 && echo '[cuda]')
DEV_EXTRAS := $(shell nvidia-smi >/dev/null 2>&1 && echo '[cuda,dev]' || echo '[dev]')
# The first Python that TensorFlow has wheels for and that can make environments.
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.13 python3.11,$(shell \
	$(p) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && echo $(p))))

.PHONY: demo check test test-all bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not full" -n 2 --dist worksteal

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not full" -n 2 --dist worksteal
	$(BIN)/python -m pytest -m "slow and not full"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev
	set -e; for script in $$(grep -l '^if __name__' benchmarks/*.py); do \
		echo "== $$script"; $(BIN)/python $$script; done

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "error: no Python 3.11, 3.12 or 3.13 with venv was found: install one, or name it: make PYTHON=/path/to/python" >&2; \
		exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.$(EXTRAS)'
	touch $@

# elasticdeform's wheels fail beside NumPy 2, built here it works; without a compiler its
# comparison tests are skipped. Of TensorFlow Addons, tests load single modules only.
$(VENV)/.installed-dev: $(VENV)/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.$(DEV_EXTRAS)'
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) --no-binary elasticdeform elasticdeform \
		|| echo "elasticdeform could not be built; its comparison tests will be skipped"
	$(BIN)/python -m pip install --quiet --no-deps "tensorflow-addons==0.23.0; python_version < '3.12'" \
		|| echo "tensorflow-addons has no wheel here; its comparison tests will be skipped"
	touch $(VENV)/.installed $@

clean:
	rm -rf demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
