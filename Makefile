# Two commands do everything on a fresh machine with Python 3.11 or newer and pip:
#   make reproduce   set up, then regenerate every figure and table under figures/
#   make test        set up, then lint, check types and run the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread a process: two test processes on two cores beat one with two threads, and the bits stay the same.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1

.PHONY: reproduce test quick versions package lint bench docs clean

reproduce: $(VENV)/ready
	$(BIN)/tokenkl reproduce

test: $(VENV)/ready-test lint
	$(BIN)/python -m pytest -m "slow or not slow"
	@$(MAKE) --no-print-directory versions

quick: $(VENV)/ready-test
	$(BIN)/python -m pytest

# The quick tests with other versions than those of constraints.txt: the oldest that pyproject.toml allows,
# the newest that there are, and the newest Python that is found. `make test` runs one test in 48 with each,
# out of all files; `make versions SHARES=1 PYTHONS="python3.12 python3.13"` runs them all, before a release.
# Old versions are warned of by newer ones beside them: that is theirs to mend. PyTorch is that of
# constraints.txt (others would be gigabytes), and is left out of other Pythons.
SHARES ?= 48
OTHER_TESTS = $@/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::FutureWarning
OTHER_INSTALL = $@/bin/python -m pip install --quiet --disable-pip-version-check
PYTHONS ?= $(lastword $(wildcard $(foreach minor,12 13,/usr/bin/python3.$(minor) /usr/local/bin/python3.$(minor) $(HOME)/.pyenv/versions/3.$(minor).*/bin/python)))

versions: .versions/lowest .versions/newest
	@for python in $(PYTHONS); do $(MAKE) --no-print-directory .versions/other OTHER=$$python || exit 1; done

.versions/lowest: FORCE
	$(PYTHON) -m venv --clear $@
	$(OTHER_INSTALL) -c lowest.txt -e '.[test,symbolic,docs]'
	XLA_FLAGS= $(OTHER_TESTS) --share 0/$(SHARES)

.versions/newest: FORCE
	$(PYTHON) -m venv --clear $@
	$(OTHER_INSTALL) $(shell grep ^torch== constraints.txt) -e '.[test]'
	$(OTHER_TESTS) --share 1/$(SHARES)

.versions/other: FORCE
	$(OTHER) -m venv --clear $@
	$(OTHER_INSTALL) -c constraints.txt -e '.[certified,experiments,dask]' pytest pytest-xdist hypothesis mpmath gguf hatchling
	$(OTHER_TESTS) --share 2/$(SHARES)

FORCE:

# Wheel and sdist; then the wheel in an environment of its own, without extras, tried outside of the checkout.
package: $(VENV)/bin/python
	$(PIP_INSTALL) build
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && ../.venv-wheel/bin/tokenkl doctor && ../.venv-wheel/bin/tokenkl profile fsq:3^8 --snr-db=0,10
	@ls -sh dist; du -sh .venv-wheel

lint: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: export NUMBA_NUM_THREADS = 1
bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tokenkl needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make a virtual environment; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[experiments,tts]'
	@touch $@

$(VENV)/ready-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[test]'
	@touch $@ $(VENV)/ready

clean:
	rm -rf $(VENV) .versions .venv-wheel build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

docs: $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --site-dir site
	@echo "Open site/index.html"
