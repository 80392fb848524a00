# make train   a first training and its report, from nothing
# make test    installs what the tests need, in two environments, and runs them all (the slow ones by hand: .venv/bin/pytest -m slow)
# make docs    the documentation site, in build/site
# make check   formatting, lint, types and the tests that take seconds
# make clean   removes what was installed and built; runs/ stays
#
# On a machine without a GPU a smaller PyTorch will do:
#   make train TORCH_FROM="--index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH := torch>=2.11,<2.14
TORCH_FROM ?=
BIN := .venv/bin
# Installed without bytecode: Python writes that of the modules that are used, when they are. Also where the environment forbids it:
# there each process would compile PyTorch's modules anew, 15 s of a training's start.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# MXNet 1.9.1 needs numpy below 1.24, which nothing else here does and no Python after 3.11 has: an environment of its own.
MXNET_PYTHON ?= $(or $(shell command -v python3.11),$(PYTHON))
MXNET_BIN := .venv-mxnet/bin
MXNET_PIP := $(MXNET_BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# Installed without their dependencies: they ask for a torch build of their own. See tests/oracles.py.
ORACLES := "torchvision>=0.26,<0.29" "timm>=1.0.15,<2" "kornia>=0.8,<1" "kornia_rs>=0.1"

# One thread in each process: the tests are many and small, and threads of two processes would wait for each other.
# One more than there are cores: a test that starts a program waits for it.
# `nproc` would say as many as OMP_NUM_THREADS.
SPREAD := -n $(shell expr $$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2) + 1) --dist loadfile --no-loadscope-reorder
test test-main test-mxnet: export OMP_NUM_THREADS := 1

.PHONY: train test test-main test-mxnet docs check clean
.DELETE_ON_ERROR:

train: .venv/installed
	$(BIN)/residual train digits

test:
	$(MAKE) -j2 -k test-main test-mxnet

test-main: .venv/installed-tests
	scripts/install-browser
	$(BIN)/python -m pytest -m "not slow" $(SPREAD)

# Beside the others, one after another in one process; it says how it went when it has ended.
test-mxnet: .venv-mxnet/installed-tests
	@$(MXNET_BIN)/python -m pytest -m "not slow" tests/*/test_mxnet*.py > .venv-mxnet/tests.log 2>&1; \
	ended=$$?; echo; echo "In MXNet's environment:"; cat .venv-mxnet/tests.log; exit $$ended

docs: .venv/installed-tests
	$(BIN)/python scripts/docs_pages.py
	$(BIN)/zensical build --strict --clean

check: .venv/installed-tests
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/*.py tests/cli

clean:
	rm -rf .venv .venv-mxnet build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# PyTorch first, alone, so that TORCH_FROM decides where it comes from and nothing later replaces it.
.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP) $(TORCH_FROM) "$(TORCH)"
	$(PIP) --editable .
	@touch $@

.venv/installed-tests: .venv/installed
	$(PIP) --editable ".[dev,docs,keras]"
	$(PIP) --no-deps $(ORACLES)
	@touch $@

.venv-mxnet/bin/python:
	@$(MXNET_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "MXNet needs Python 3.11; name one: make test MXNET_PYTHON=...")'
	$(MXNET_PYTHON) -m venv .venv-mxnet

.venv-mxnet/installed-tests: pyproject.toml | .venv-mxnet/bin/python
	$(MXNET_PIP) $(TORCH_FROM) "$(TORCH)"
	$(MXNET_PIP) --editable ".[mxnet]" "pytest>=8"
	@touch $@
