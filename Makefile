PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := $(VENV)/.installed-bench

.PHONY: run test bench format clean

run: $(STAMP)
	$(BIN)/python -m experiments.clusters

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -n 2 --dist loadfile

bench: $(BENCH)
	$(BIN)/python -m benchmarks.convolution
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.training_step --size 64
	$(BIN)/python -m benchmarks.training_step --against flax
	$(BIN)/python -m benchmarks.kmeans

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) output

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, this is %d.%d: say make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[experiments,test]'
	touch $@

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet 'torch>=2.6'
	touch $@
