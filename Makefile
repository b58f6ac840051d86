# `make demo` and `make test` each create the environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-chips lint bench clean

demo: $(VENV)/base
	$(BIN)/rad-jax demo --output demo

test: $(VENV)/dev
	$(BIN)/pytest --numprocesses 2 --dist loadfile --max-worker-restart 0

test-slow: $(VENV)/dev
	$(BIN)/pytest -m slow

# With the compiler for TPUs, which needs none; an environment of its own, 1.8 GB.
CHIPS := .venv-chips

test-chips: $(CHIPS)/chips
	$(CHIPS)/bin/python -m pytest tests/chips

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# On a GPU: make bench RESULTS=docs/results/gpu_
RESULTS := docs/results/
BENCHMARKS := unet inpainting training cold_start perlin_masks input_pipeline convert

bench: $(VENV)/dev
	set -e; for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py --output $(RESULTS)$$name.json; done
	$(BIN)/python benchmarks/update_docs.py

clean:
	rm -rf $(VENV) $(CHIPS) demo

# One environment; a stamp file says which pinned requirements it holds.
$(VENV)/base $(VENV)/dev: $(VENV)/%: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'rad_jax needs Python 3.11 or newer: make PYTHON=python3.12 ...'; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(CHIPS)/chips: requirements/chips.txt requirements-tpu.txt pyproject.toml
	test -x $(CHIPS)/bin/python || $(PYTHON) -m venv $(CHIPS)
	$(CHIPS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$(CHIPS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
