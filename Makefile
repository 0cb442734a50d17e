# Everything here only calls `marquee`, the checkers and the benchmarks; settings pass through the environment.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Without --no-compile pip byte-compiles 1.5 GB of packages, most of which is never imported.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test test-all test-cluster check bench load install clean chart image

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Settings (environment or make VAR=value): PORT HOST MARQUEE_HOME REDIS_URL DATASET DATASET_PATH"

serve: $(VENV)/.runtime ## Install, fetch data, train, evaluate, and serve on http://HOST:PORT
	@$(BIN)/marquee doctor
	@$(BIN)/marquee bootstrap
	@exec $(BIN)/marquee serve

test: check ## Check the code and run its tests
	$(BIN)/python -m pytest --numprocesses 2 --ignore tests/cluster -m "not slow"

test-all: $(VENV)/.dev ## Run what takes minutes of its own, which test leaves out
	$(BIN)/python -m pytest --numprocesses 2 --ignore tests/cluster -m slow

test-cluster: $(VENV)/.dev ## Test the chart on the cluster of KUBECONFIG, which has KubeRay and MARQUEE_IMAGE
	@[ -n "$$KUBECONFIG" ] || { echo "KUBECONFIG names no cluster: see k8s/prerequisites/README.md"; exit 2; }
	$(BIN)/python -m pytest tests/cluster $(PYTEST_ARGS)

check: $(VENV)/.dev ## Lint, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chart: $(VENV)/.dev ## Check the Helm chart, the image and what they are installed with (part of test)
	$(BIN)/python -m pytest tests/chart

TARGET  ?= cpu
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE   ?= marquee/marquee:$(VERSION)$(if $(filter cuda,$(TARGET)),-cuda)
BUILDER  ?= $(shell docker info > /dev/null 2>&1 && echo docker || command -v buildah || echo docker)
BUILD   := $(if $(findstring buildah,$(BUILDER)),bud --layers,build)

image: ## Build the image; TARGET=cpu|cuda IMAGE=name:tag BUILDER=docker|buildah BUILD_ARGS="--build-arg …"
	$(BUILDER) $(BUILD) --target $(TARGET) --tag $(IMAGE) $(BUILD_ARGS) .
	@$(BUILDER) images $(IMAGE)

bench: $(VENV)/.bench ## Measure everything into docs/performance.md; QUICK=1 shows in minutes that it runs
ifdef QUICK
	@$(BIN)/python -m loadtests.bench --quick
else
	@$(BIN)/marquee data
	@$(BIN)/marquee features
	@$(BIN)/marquee train
	@$(BIN)/python -m loadtests.bench
endif

load: $(VENV)/.bench ## Load the server on HOST:PORT as people would; USERS=20 RUN_TIME=60s SHAPE=steady|spike|diurnal
	@$(BIN)/locust -f loadtests/locustfile.py --headless --only-summary --host http://$(or $(HOST),127.0.0.1):$(or $(PORT),8000) \
		--users $(or $(USERS),20) --run-time $(or $(RUN_TIME),60s) --shape $(or $(SHAPE),steady)

install: $(VENV)/.dev ## Install everything, tools for development included

clean: ## Remove the environment and everything that was built, trained or stored
	rm -rf $(VENV) .marquee

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Marquee needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: constraints.txt pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV) (a minute or two the first time) ..."
	$(INSTALL) -e .
	@touch $@

$(VENV)/.bench: constraints.txt pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV), what the benchmarks compare with included ..."
	$(INSTALL) -e '.[bench]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: constraints.txt pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV), development tools included ..."
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.runtime $(VENV)/.bench
