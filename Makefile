# cellworker. `make run` and `make test` set everything up by themselves; `make help` lists the rest.
# Works with GNU make 3.81 (macOS) and newer.

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-alone check fmt logs kill clean setup web web-dev chromium lock bench soak test-lowest test-arm test-seurat5 build stack download-image run-downloaded hooks test-cassia fuzz asan docs notebooks wheel

BIN := .venv/bin
DATA_DIR ?= data
PORT ?= 4000
MINUTES ?= 10
LATEST_TAG ?= latest
SECONDS ?= 30

C_FILES := $(wildcard src/cellworker/native/*.c src/cellworker/native/*/*.c src/cellworker/native/*/*.h)
INPUTS := uv.lock pyproject.toml hatch_build.py web_build.py scripts/bootstrap.py $(C_FILES)
WEB := $(shell find web -type f -not -path '*/node_modules/*')

# The first Python of a supported version; the names of pyenv and macOS exist without being usable, so each is tried.
BOOTSTRAP = for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	    exec $$python -B scripts/bootstrap.py $(1); \
	  fi; \
	done; \
	echo 'cellworker needs Python 3.11 to 3.14, and found none.' >&2; \
	echo 'Debian, Ubuntu: sudo apt-get install python3 python3-venv     macOS: brew install python@3.13' >&2; \
	echo 'A Python elsewhere: make PYTHON=/path/to/python3' >&2; \
	exit 1

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Use it

# A checkout has a developer's tools anyway.
run: $(if $(RELOAD),.venv/.ready-dev,.venv/.ready-web) ## serve data/$EXPERIMENT_ID, or the sample, on $PORT (4000); RELOAD=1 follows the code
	@exec $(if $(RELOAD),$(BIN)/python scripts/reload.py,$(BIN)/cellworker run)

logs: ## follow the log of the worker that runs on $PORT
	@test -f "$(DATA_DIR)/.run/$(PORT).log" || { echo "No worker has run on port $(PORT) yet."; exit 1; }
	@exec tail -n 100 -F "$(DATA_DIR)/.run/$(PORT).log"

kill: .venv/.ready-run ## stop the worker that runs on $PORT
	@exec $(BIN)/cellworker stop

##@ Change it

setup: .venv/.ready-dev ## make .venv with everything a developer needs

test: check .venv/.ready-web ## check, then run all tests (ARGS="-k genes" picks some)
	$(BIN)/python -m pytest -q $(or $(ARGS),-n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0)

coverage: check ## the same with coverage measured: a table, coverage.xml, and a floor below which it fails
	$(BIN)/python -m pytest -q $(or $(ARGS),-n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0) --cov --cov-report=xml --cov-report=term:skip-covered $(if $(ARGS),--cov-fail-under=0)

test-alone: .venv/.ready-dev ## the tests that need ../shared, with it hidden: all skip
	$(BIN)/python -m pytest -q -m shared --shared=.hidden

check: .venv/.ready-dev ## lint, formatting, types, import floors
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > .venv/lint-imports.log 2>&1 || { cat .venv/lint-imports.log; exit 1; }

fmt: .venv/.ready-dev ## format, and repair what the linter can
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/python scripts/make_tables.py
	$(BIN)/python scripts/make_chart.py
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

web: .venv/.ready-dev ## check the explorer's types and bundle its page
	$(BIN)/python scripts/make_web_types.py
	$(BIN)/python web_build.py --types
	@touch .venv/.ready-web

web-dev: .venv/.ready-dev ## serve the explorer from its sources, beside the worker on CELLWORKER_URL (port 4000)
	$(BIN)/python web_build.py --watch

chromium: ## install the browser of the explorer's tests, where it is missing and may be
	@sh scripts/install_chromium.sh

notebooks: .venv/.ready-dev ## run the tutorials again, and keep what they print and draw
	$(BIN)/python scripts/run_notebooks.py

docs: .venv/.ready-dev ## build the documentation's site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

hooks: ## have git run `make check` before each commit of this checkout
	git config core.hooksPath scripts/hooks

lock: .venv/.ready-dev ## resolve the dependencies again into uv.lock
	PATH="$(CURDIR)/.venv/tools/bin:$(CURDIR)/.venv/bin:$$PATH" $(BIN)/python scripts/lock.py $(ARGS)

clean: ## remove the environment, caches and compiled kernels; data/ and the stores stay
	rm -rf .coverage coverage.xml .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f src/cellworker/native/_kernels.so src/cellworker/native/*.tmp
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Prove it

bench: .venv/.ready-bench ## run one benchmark: make bench NAME=...
	@exec $(BIN)/python -m benchmarks $(NAME)

soak: .venv/.ready-dev ## requests of all kinds for MINUTES (10) while processes are killed
	SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -q tests/soak

fuzz: .venv/.ready-dev ## bend files at random for SECONDS (30) per format, and read them
	$(BIN)/python scripts/fuzz.py --seconds $(SECONDS) $(ARGS)

asan: .venv/.ready-dev ## kernels and hostile files under address and undefined-behaviour sanitizers
	$(BIN)/python scripts/asan.py --fuzz $(SECONDS) $(ARGS)

test-lowest: .venv/.ready-dev ## the tests with the oldest versions that pyproject.toml allows
	$(BIN)/python scripts/test_lowest.py $(ARGS)

test-cassia: .venv/.ready-dev ## the tests of the extra cassia, with the package itself (350 MB)
	$(BIN)/python scripts/test_cassia.py $(ARGS)

test-arm: .venv/.ready-dev ## the tests of pinned bytes on aarch64, in an emulator (root, qemu-user-static, debootstrap)
	$(BIN)/python scripts/test_arm.py $(ARGS)

test-seurat5: .venv/.ready-dev ## open what we write in Seurat 5 and compare (needs R with Seurat 5; RSCRIPT=... names it)
	$(BIN)/python scripts/test_seurat5.py

##@ Ship it

wheel: .venv/.ready-dev ## build the sdist and a wheel for each platform into dist/ (ARGS=manylinux_2_17_x86_64 one alone)
	$(BIN)/python scripts/make_wheels.py $(ARGS)

build: ## build the image `worker:latest`
	docker build --tag worker:latest .

# Compose takes a relative path that does not begin with a dot for the name of a volume.
MOUNTED = DATA_DIR="$$(cd "$(DATA_DIR)" && pwd)"

stack: build ## a worker with stand-ins for the cloud in containers, serving data/$EXPERIMENT_ID or the sample
	@mkdir -p "$(DATA_DIR)"
	$(MOUNTED) docker compose up --detach --wait worker || { docker compose logs --no-log-prefix seed; exit 1; }
	@docker compose logs --no-log-prefix seed

download-image: ## pull the image LATEST_TAG of ECR_REPOSITORY (registry/name) as `worker:downloaded`
	@test -n "$(ECR_REPOSITORY)" || { echo "ECR_REPOSITORY=registry/name make download-image LATEST_TAG=..."; exit 1; }
	aws ecr get-login-password | docker login --username AWS --password-stdin "$(firstword $(subst /, ,$(ECR_REPOSITORY)))"
	docker pull "$(ECR_REPOSITORY):$(LATEST_TAG)"
	docker tag "$(ECR_REPOSITORY):$(LATEST_TAG)" worker:downloaded

run-downloaded: ## the same stack with the image that `make download-image` fetched
	@mkdir -p "$(DATA_DIR)"
	$(MOUNTED) WORKER_IMAGE=worker:downloaded docker compose up --detach --wait --no-build worker \
	  || { docker compose logs --no-log-prefix seed; exit 1; }
	@docker compose logs --no-log-prefix seed

.venv/.ready-run: $(INPUTS)
	@$(call BOOTSTRAP,run)

.venv/.ready-web: .venv/.ready-run $(WEB)
	@$(call BOOTSTRAP,web)

.venv/.ready-dev: $(INPUTS)
	@$(call BOOTSTRAP,dev)

.venv/.ready-bench: $(INPUTS)
	@$(call BOOTSTRAP,bench)
