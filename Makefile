# Every target makes the environment that it needs: only Python 3.11 to 3.13 and make have to be there.
# `make help` lists them. Variables that can be set on the command line:
#   PYTHON      the interpreter for the environments, e.g. PYTHON=python3.12
#   VENV        where the environment stands; VENV_TORCH, where the one with torch stands, and
#               VENV_BEAM that with Apache Beam
#   TORCH_PIP   options of pip for torch. On Linux the package index hands out the CUDA build (several
#               gigabytes); TORCH_PIP="--index-url https://download.pytorch.org/whl/cpu" takes the CPU's.
#   PYTEST_ARGS options of pytest, e.g. PYTEST_ARGS="-k concat"
#   MULTI30K    folder of Multi30k's text files, which `make bench` trains on and translates
#   BENCH_ARGS  options of the benchmark, e.g. BENCH_ARGS="--full" or "--only training"; "--help" lists them

# The first of these that is 3.11, 3.12 or 3.13 is taken.
PYTHON ?= python3 python3.13 python3.12 python3.11
VENV ?= .venv
VENV_TORCH ?= .venv-torch
VENV_BEAM ?= .venv-beam
TORCH_PIP ?=
PYTEST_ARGS ?=
MULTI30K ?=
BENCH_ARGS ?=

with_extras := .[test,jax,scores,serving]
# TensorFlow's C++ library needs Linux.
tensorflow_2_20 := $(if $(filter Linux,$(shell uname -s)),$(VENV)/tensorflow-2.20/.complete)
# What float64 may change, by name; the rest has run in float32.
in_float64 := -k 'numbers or fast or float64 or functional or gradient or difference'
# TensorFlow keeps each program that XLA compiled as long as the process lives, 40 MB and more of it: so
# groups of tests run one after the other, each in processes of its own. The last is what no other names.
large := tests/layers/test_options_training.py tests/layers tests/models tests/serving/test_[a-l]* tests/serving tests/training

# $(call pytest,folder,backend,groups,options): a group is a folder, a pattern of files, or a file. The
# workers share it file by file, one that is a file test by test. pytest's 5 says that nothing of it
# was chosen. The loops take patterns as they are (set -f), pytest the files.
define pytest
	@set -f; chosen=5; for group in $(3) tests; do \
		dist='loadfile --no-loadscope-reorder' ignored=; case $$group in *.py) dist=load;; esac; \
		for other in $(3); do case $$other in $$group/*) ignored="$$ignored --ignore-glob=$$other";; esac; done; \
		set +f; KERAS_BACKEND=$(2) $(1)/bin/python -m pytest -n auto --dist $$dist $$group $$ignored $(4) $(PYTEST_ARGS); \
		code=$$?; set -f; [ $$code = 5 ] || chosen=$$code; [ $$code = 0 ] || [ $$code = 5 ] || exit $$code; \
	done; exit $$chosen
endef

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-torch test-beam test-long test-all doctest lint format types wheel wheel-check bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

demo: $(VENV)/.core  ## Train, evaluate and export the date model: a few minutes on two cores
	KERAS_BACKEND=tensorflow $(VENV)/bin/python examples/dates.py

test: doctest $(tensorflow_2_20)  ## Run the tests: all on TensorFlow, those of the layers, search and models on JAX
	$(call pytest,$(VENV),tensorflow,$(large))
	$(call pytest,$(VENV),jax,tests/layers/test_options_training.py)
	$(call pytest,$(VENV),jax JAX_ENABLE_X64=1,,$(in_float64))

test-torch: $(VENV_TORCH)/.test  ## Run the tests of the layers, search and models on torch, with no TensorFlow there
	$(call pytest,$(VENV_TORCH),torch,)

test-beam: $(VENV_BEAM)/.test  ## Run the tests of translating folders of files, on Apache Beam
	KERAS_BACKEND=tensorflow $(VENV_BEAM)/bin/python -m pytest -m beam tests/examples/test_translate_files.py $(PYTEST_ARGS)

test-long: $(VENV)/.test $(VENV_TORCH)/.test  ## Run what takes long: an hour's soak of exports, ten thousand random texts, every case on JAX
	$(call pytest,$(VENV),tensorflow,$(large),-m long)
	$(call pytest,$(VENV),jax,,-m long)
	$(call pytest,$(VENV),jax JAX_ENABLE_X64=1,,-m long $(in_float64))
	$(call pytest,$(VENV_TORCH),torch,,-m long)

test-all: lint types wheel-check test test-torch test-beam test-long  ## Run every check

doctest: $(VENV)/.test  ## Run the examples in the docstrings
	KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest --doctest-modules keras_luong keras_luong_client

lint: $(VENV)/.test  ## Check style and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.test  ## Mend style and format where a tool can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.test  ## Check the types
	$(VENV)/bin/mypy

wheel: $(VENV)/.test  ## Build the wheel and the source archive into dist/
	$(VENV)/bin/python -m build

wheel-check: $(VENV)/.test  ## Build the wheel, install it in a fresh environment, import it there
	$(VENV)/bin/python -m pytest -m wheel tests/test_wheel.py

# The first run makes the peers' environments. The machine should do nothing else.
bench: $(VENV)/.test  ## Time ours beside its peers and write benchmarks/RESULTS.md: at most 45 minutes on two cores
	KERAS_BACKEND=tensorflow $(VENV)/bin/python -m benchmarks.run \
		$(if $(MULTI30K),--multi30k "$(MULTI30K)") $(BENCH_ARGS)

clean:  ## Remove the environments, caches and built archives; trained models stay
	rm -rf $(VENV) $(VENV_TORCH) $(VENV_BEAM) dist build .mypy_cache .pytest_cache .ruff_cache
	find keras_luong keras_luong_cli keras_luong_client examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. A stamp in each environment says what stands in it; a newer pyproject.toml makes it stale.

# $(call environment,folder): an environment with uv in it, where uv is not to be had elsewhere.
define environment
	@found=; for python in $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
		then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "keras_luong needs Python 3.11, 3.12 or 3.13 and found none; tried: $(PYTHON)." >&2; \
		echo "Name one: make <target> PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "Making $(1) with $$($$found --version)"; \
	$$found -m venv $(1) || { \
		echo "$$found has no working venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	}
	@command -v uv >/dev/null || $(1)/bin/python -m pip install --quiet --disable-pip-version-check uv \
		|| echo "uv is not to be had; pip does its work, more slowly"
	@touch $@
endef

# $(call install,folder,arguments): with uv, else with pip (which may know of an index that uv does not).
define install
	@if uv=$$(command -v uv || command -v $(1)/bin/uv) && echo "uv pip install $(2)" \
		&& "$$uv" pip install --python $(1)/bin/python $(2); \
	then :; else echo "pip install $(2)" && $(1)/bin/python -m pip install $(2); fi
endef

$(VENV)/.made:
	$(call environment,$(VENV))

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable .)
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable '$(with_extras)')
	@touch $@ $(VENV)/.core

$(VENV_BEAM)/.made:
	$(call environment,$(VENV_BEAM))

$(VENV_BEAM)/.test: $(VENV_BEAM)/.made pyproject.toml
	$(call install,$(VENV_BEAM),--editable '.[beam]' pytest)
	@touch $@

# What the newest TF Serving is built from, for its C++ loader: libraries and headers, 300 MB to
# download and 1.3 GB on the disk. Nothing there is ever imported, so it comes without dependencies.
$(VENV)/tensorflow-2.20/.complete: | $(VENV)/.made
	rm -rf $(@D)
	$(call install,$(VENV),--target $(@D) --no-deps 'tensorflow-cpu==2.20.*' 'tensorflow-text==2.20.*')
	@touch $@

$(VENV_TORCH)/.made:
	$(call environment,$(VENV_TORCH))

# Without the package's dependencies: what runs on torch must run where TensorFlow is not. pip, since
# uv takes no CPU build from a folder of wheels that only pip's configuration names.
$(VENV_TORCH)/.test: $(VENV_TORCH)/.made pyproject.toml
	$(VENV_TORCH)/bin/python -m pip install --disable-pip-version-check $(TORCH_PIP) 'torch>=2.13,<2.14'
	$(call install,$(VENV_TORCH),keras numpy pytest pytest-xdist)
	$(call install,$(VENV_TORCH),--no-deps --editable .)
	@touch $@
