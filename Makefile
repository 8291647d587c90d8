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

.PHONY: reproduce test quick lowest package lint bench docs clean

reproduce: $(VENV)/ready
	$(BIN)/tokenkl reproduce

test: $(VENV)/ready-test lint
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or not slow"

quick: $(VENV)/ready-test
	$(BIN)/python -m pytest

# The quick tests with the oldest versions that pyproject.toml allows, in an environment of its own.
# Old versions are warned of by newer ones beside them: that is theirs to mend.
lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c lowest.txt -e '.[test,symbolic,docs]'
	XLA_FLAGS= .venv-lowest/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::FutureWarning

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
	rm -rf $(VENV) .venv-lowest .venv-wheel build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

docs: $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --site-dir site
	@echo "Open site/index.html"
