# Everything runs in a private virtual environment, .venv, that holds the versions pinned in requirements/. It is made
# on first use and again only when a pin changes. Another interpreter: make PYTHON=python3.12 test. More arguments for
# the program that a target runs: make demo ARGS="--levels 5".
PYTHON ?= python3
VENV := .venv
BIN = $(VENV)/bin
ARGS ?=
# An interpreter that has PyTorch, for the benchmark that can time it: make bench TORCH_PYTHON=~/torch/bin/python.
export TORCH_PYTHON
# Two workers whatever the machine: each one's XLA already spreads over the cores. The tests of a file share what was
# trained and compiled, so one worker takes the file.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --durations 5

# Files with tests of a tier: to collect all tests for a few takes longer than some of them run.
with = $(shell grep -rlE '$(1)' tests --include='test_*.py')

# Those who only use the library need not run these.
LAB = tests/models tests/data tests/examples tests/experiments tests/project

# The notebooks as pages with their outputs, which are executed again when they or the code change.
PAGES := $(patsubst notebooks/%,build/notebooks/%,$(wildcard notebooks/*.md))
SOURCES := $(shell find jaxticket experiments -name '*.py')

.DEFAULT_GOAL := help
.PHONY: help demo report test lab breadth science slow multihost drill wheel hf newest oldest lint format docs notebooks bench clean

help: ## show this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/demo.stamp ## search for winning tickets on real digits: live progress, a table and a plot (minutes)
	$(BIN)/python experiments/imp.py $(ARGS)

report: $(VENV)/demo.stamp ## the dashboard of claims, build/report/index.html, of all that is stored in docs/evidence
	$(BIN)/python experiments/report.py $(ARGS)

test: $(VENV)/test.stamp ## the tests of the library
	$(PYTEST) tests $(LAB:%=--ignore %) $(ARGS)

lab: $(VENV)/test.stamp ## the tests of networks, data sets, experiments, README, docs, docstrings, and of what CI runs
	$(PYTEST) $(LAB) experiments jaxticket $(ARGS)

breadth: $(VENV)/test.stamp ## the cases of which `make test` takes a sample, and every pair of the conformance matrix
	$(PYTEST) -m breadth $(call with,mark.breadth|tests.tiers) $(ARGS)

science: $(VENV)/text.stamp ## slow checks that something is learnt, with replicates and intervals
	XLA_FLAGS=--xla_backend_optimization_level=3 $(PYTEST) -m science $(call with,mark.science) $(ARGS)

slow: $(VENV)/test.stamp ## the full products that the default tests sample, runs that are killed and go on
	$(PYTEST) -m slow $(ARGS)

multihost: $(VENV)/test.stamp ## runs on 1, 2 and 4 processes, whose bits are compared (minutes)
	$(BIN)/python -m pytest tests/multihost $(ARGS)

drill: $(VENV)/test.stamp ## runs that are killed, starved of disk and damaged, and must lose nothing (minutes)
	$(BIN)/python -m pytest -m slow tests/drill $(ARGS)

wheel: $(VENV)/test.stamp ## build the wheel, install it alone, run there the README's code and the core's doctests
	$(BIN)/python -m pytest -m slow tests/project/test_wheel.py $(ARGS)

hf: VENV = .venv-hf
hf: .venv-hf/stamp ## folders of transformers, read and written, against transformers on PyTorch
	$(PYTEST) -m slow tests/models/test_transformers.py $(ARGS)

newest: VENV = .venv-newest
newest: .venv-newest/stamp ## lint and the default tests with the newest versions: make newest PYTHON=python3.13
	$(LINT)
	$(PYTEST) $(ARGS)

oldest: VENV = .venv-oldest
oldest: .venv-oldest/stamp ## the default tests with the lower bounds of setup.cfg
	$(PYTEST) $(ARGS)

define LINT
$(BIN)/ruff format --check .
$(BIN)/ruff check .
$(BIN)/mypy
$(BIN)/lint-imports
endef

lint: $(VENV)/test.stamp ## formatting, lint, types and import contracts
	$(LINT)

format: $(VENV)/test.stamp ## rewrite the sources as `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable silences a notice of what will follow MkDocs, which is not a warning of the build.
docs: $(VENV)/docs.stamp $(PAGES) ## build the site, with executed notebooks, into site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

notebooks: $(PAGES) ## execute the notebooks that changed, or whose code did, into build/notebooks

# docs/_hooks.py adds these pages to the site.
build/notebooks/%.md: notebooks/%.md $(SOURCES) | $(VENV)/docs.stamp
	@mkdir -p build/notebooks
	@$(BIN)/jupytext --quiet --to ipynb --execute --output build/notebooks/$*.ipynb $<
	@$(BIN)/jupyter-nbconvert --log-level WARN --to markdown build/notebooks/$*.ipynb

bench: $(VENV)/test.stamp ## every benchmark: ratios measured in one run (ARGS=--quick for a smoke test)
	@for file in benchmarks/[!_]*.py; do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

clean: ## remove the environment and every cache, never runs/
	rm -rf $(VENV) .venv-hf .venv-newest .venv-oldest build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python .venv-hf/bin/python .venv-newest/bin/python .venv-oldest/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; on Debian or Ubuntu: \
	apt install python3 python3-venv; or name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: \
	jaxticket needs Python 3.11 or newer; install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$$($(PYTHON) --version) has no venv; on Debian or \
	Ubuntu: apt install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@$(PYTHON) -m venv $(@:/bin/python=)

# The build tools are pinned with the rest (no isolation), so that set-up fetches nothing that is not listed.
$(VENV)/demo.stamp: requirements/demo.txt | $(BIN)/python
	@echo "Installing the pinned requirements into $(VENV) (about a minute, longer on a slow connection) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/demo.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/demo.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	@touch $@

$(VENV)/text.stamp: requirements/text.txt $(VENV)/test.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/text.txt
	@touch $@

$(VENV)/docs.stamp: requirements/docs.txt $(VENV)/test.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@touch $@

# PyTorch comes first and alone, since only it is looked for in PyTorch's own index, whose files have no CUDA. Where that
# index is out of reach, pip says so and takes the file of the usual one, of gigabytes.
.venv-hf/stamp: requirements/hf.txt requirements/test.txt requirements/demo.txt | .venv-hf/bin/python
	@echo "Installing PyTorch and transformers into $(@D) ..."
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	--extra-index-url https://download.pytorch.org/whl/cpu $$(grep '^torch==' $<)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Not pinned: whatever the package index has today, and the oldest that setup.cfg admits.
.venv-newest/stamp: setup.cfg | .venv-newest/bin/python
	@echo "Installing the newest versions into $(@D) ..."
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	--editable '.[experiments,test]'
	@touch $@

.venv-oldest/stamp: setup.cfg requirements/oldest.py | .venv-oldest/bin/python
	@echo "Installing the lower bounds of setup.cfg into $(@D) ..."
	@$(@D)/bin/python requirements/oldest.py > $(@D)/constraints.txt
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(@D)/constraints.txt \
	--editable '.[experiments,test]'
	@touch $@
