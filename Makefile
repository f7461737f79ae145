# Two commands that do all their own set-up on a machine with Python 3.11+, pip and make.
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint clean

demo: .venv/.done  ## simulate a scan, run the workflow on it, print where the report is
	xrmflow simulate demo --preset demo
	snakemake --cores $(CORES) --config settings=demo/config.yaml
	@echo "The report: $(CURDIR)/demo/results/bone/report.html"

test: .venv/.test  ## the tests
	python -m pytest -q

lint: .venv/.lint  ## the gate that continuous integration applies
	ruff check .
	ruff format --check .
	lint-imports
	pyright
	snakefmt --check Snakefile workflow
	snakemake --lint --config settings=tests/workflow/lint/config.yaml

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/.test: .venv/.done
	python -m pip install --quiet --disable-pip-version-check --editable '.[gpu-test]'
	touch $@

.venv/.lint: .venv/.done
	python -m pip install --quiet --disable-pip-version-check --editable '.[lint]'
	touch $@

clean:  ## remove the demo
	rm -rf demo
