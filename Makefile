# Each target sets up what it needs by itself: a virtual environment in .venv, once.
#
#   make demo      synthetic cells from JSON to records, training, report, SavedModel, pictures
#   make check     style, types and the fast tests, under two minutes
#   make test      all tests but the longest
#   make test-all  all tests
#   make bench     every figure on speed, memory and agreement: an hour or two
#   make experiments LIVECELL=DIR ISBI=DIR
#                  what was learned from real images; a day or two, and may be stopped at any time

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

# In benchmarks/: what needs no data, and what trains on LIVECell's sample (readout.py and ensemble.py
# use networks of separation.py).
BENCHMARKS := border_map convert augment deterministic precision train_step predict predict_large \
	evaluate evaluate_agreement
EXPERIMENTS := default_model separation readout ensemble fine_tuning peers
LIVECELL ?= data/livecell_sample
ISBI ?= data/isbi2012

.PHONY: demo check test test-all bench experiments clean
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
	$(BIN)/python -m pytest -m "slow and not full" -n 2 --dist loadfile

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev
	set -e; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

experiments: $(VENV)/.installed-dev
	set -e; for name in $(EXPERIMENTS); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(LIVECELL); done
	$(BIN)/python benchmarks/claims.py --livecell $(LIVECELL) --isbi $(ISBI)
	$(BIN)/python benchmarks/tables.py

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
