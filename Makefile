PYTHON ?= python3
PYTHON_OLDEST ?= python3.11
PYTHON_NEWEST ?= python3.13
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet
STAMP := $(VENV)/.installed
BENCH := $(VENV)/.installed-bench
DOCS := $(VENV)/.installed-docs

# A file is one worker's, and files are handed out in the order given: testpaths, where none are.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

# Of the experiments' tests, some that take seconds; the library's are all run.
QUICK := $(addprefix tests/experiments/,$(addsuffix .py,cli/test_options runs/test_protocol training/test_schedules records/test_summaries records/test_store))

TORTURE := $(addprefix tests/,experiments/test_torture.py experiments/records/test_damage.py experiments/cli/test_option_fuzz.py jaxinit/test_odd_calls.py jaxinit/banks/test_damage_of_banks.py)

.PHONY: run test torture test-wheel test-oldest test-newest bench docs format clean

run: $(STAMP)
	$(BIN)/python -m experiments.clusters

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/pytest $(WORKERS)

# What the tests try a few times, many times, for hours: kills, damaged files, odd options and calls; and full disks.
torture: $(STAMP)
	JAXINIT_KILLS=75 JAXINIT_DAMAGES=200 JAXINIT_FUZZ=100 JAXINIT_ODD_CALLS=0 $(BIN)/pytest $(WORKERS) $(TORTURE)

# The library alone, as it is installed: from its wheel, where the checkout cannot be imported.
test-wheel: $(STAMP)
	# What an earlier build left would be packed again.
	rm -rf build/lib build/bdist.* build/wheel .venv-wheel && mkdir -p build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet "$$(echo build/wheel/*.whl)[test]"
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -m tests.library $$folder/run && \
	    bin=$$PWD/.venv-wheel/bin && cd $$folder/run && \
	    $$bin/python -c 'import sys, sysconfig, jaxinit; jaxinit.__file__.startswith(sysconfig.get_path("purelib")) or sys.exit(f"this is not the wheel: {jaxinit.__file__}")' && \
	    ! $$bin/python -c 'import experiments' 2>/dev/null && \
	    $$bin/pytest $(WORKERS) --pyargs tests jaxinit

# Each with its own environment, made anew: the bounds of pyproject.toml taken as versions, and
# whatever pip takes for the newest. Compiled as users have it, not as tests/conftest.py chooses.
test-oldest:
	@$(call find,$(PYTHON_OLDEST),PYTHON_OLDEST,3.11)
	rm -rf .venv-oldest && mkdir -p build
	sed -n 's/^ *"\([A-Za-z_-]*\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml > build/oldest.txt
	$(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint build/oldest.txt --editable '.[experiments,test]'
	$(call test,oldest)

test-newest:
	@$(call find,$(PYTHON_NEWEST),PYTHON_NEWEST,3.13)
	rm -rf .venv-newest
	$(PYTHON_NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --editable '.[experiments,test]'
	$(call test,newest)

find = $(1) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(3)")' 2>/dev/null || \
    { echo '$(1) is not there or not Python $(3): say make $(2)=/path/to/python' >&2; exit 2; }
define test
.venv-$(1)/bin/python -m pip list 2>/dev/null | grep -E '^(jax|jaxlib|flax|numpy|scipy|jaxtyping|optax) '
XLA_FLAGS= .venv-$(1)/bin/pytest $(WORKERS) tests/jaxinit jaxinit $(QUICK)
endef

bench: $(BENCH)
	$(BIN)/python -m benchmarks.convolution
	$(BIN)/python -m benchmarks.convolution --size 64
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.training_step --size 64
	$(BIN)/python -m benchmarks.training_step --against flax
	$(BIN)/python -m benchmarks.kmeans

# The site, in build/docs: needs no network. A warning is an error.
docs: $(DOCS)
	$(BIN)/sphinx-build -W --keep-going -q -c docs -d build/doctrees -b html . build/docs

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-wheel .venv-oldest .venv-newest build output

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, this is %d.%d: say make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[experiments,test]'
	touch $@

$(BENCH): $(STAMP)
	$(INSTALL) 'torch>=2.6'
	touch $@

$(DOCS): $(STAMP)
	$(INSTALL) --editable '.[experiments,test,docs]'
	touch $@
