# Everything runs in .venv, which is created from requirements.lock with verified hashes.
#   make demo    a live LLM application, MLflow and the exporter on this machine    make demo ARGS="--duration 2m"
#   make test    ruff, mypy --strict and all tests                                  make test ARGS="-k ledger"
#   make soak    the invariants over 100,000 random steps, and 200 kills (kill -9)   (a quarter of an hour)
#   make breakages  remove each protection and check that its test fails          make breakages ARGS="audit"
#   make image   build the image and run it, without a container engine; needs root, buildah and debootstrap (CONTRIBUTING.md)
#   make bench   benchmarks, compared with baselines (half an hour); needs Linux    make bench ARGS="catch-up --json FILE"
#   make pictures   retake the pictures in the documentation; needs Chromium
#   make lock    update requirements.lock, and from it requirements-run.lock (what the exporter needs in its image) and
#                requirements-build.lock (what the Dockerfile builds it with)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: demo test lint pytest soak breakages image bench pictures lock clean

demo: $(STAMP)
	@$(BIN)/mlflow-trace-exporter demo $(ARGS)

test: lint pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

pytest: $(STAMP)
	$(BIN)/pytest -n 6 --dist loadscope --no-loadscope-reorder $(ARGS)

soak: $(STAMP)
	$(BIN)/pytest tests/soak --timeout=0 $(ARGS)

breakages: $(STAMP)
	$(BIN)/python -m tests.breakages $(ARGS)

image: $(STAMP)
	$(BIN)/pytest tests/image --timeout=0 $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(ARGS)

pictures: $(STAMP)
	$(BIN)/python -m tests.pictures

lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra plots --extra users --extra postgresql --group dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --quiet --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra postgresql --universal --python-version 3.11 --constraints requirements.lock \
	  --generate-hashes --no-header --quiet --output-file requirements-run.lock
	$(BIN)/uv pip compile --group build --universal --python-version 3.11 --constraints requirements.lock \
	  --generate-hashes --no-header --quiet --output-file requirements-build.lock

clean:
	rm -rf $(VENV)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing from requirements.lock into $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $(STAMP)
