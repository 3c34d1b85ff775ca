# `make` lists the targets. Every target that needs the environment sets it up first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= out/demo
PYTEST_ARGS ?=
LIT_ARGS ?=

# Tests run beside each other, in JOBS processes; one thread each keeps them from fighting for the cores.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))
test lit: export OMP_NUM_THREADS ?= 1
# They start hundreds of processes, each of which would compile all modules anew; pytest sees to it by itself.
lit: export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv package demo check lint format types lit test docs wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf 'make %-8s %s\n' "$$name" "$$text"; done

venv: $(STAMP) ## set up .venv with the package (editable) and its test tools

# torch comes first, by its exact version: where an index offers a CPU build of that version, pip takes it, and the
# range in pyproject.toml is satisfied by what is there.
$(STAMP): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "loopmorph needs Python 3.11 or newer, found: $(or $(shell "$(PYTHON)" --version 2>&1),none); name one with make PYTHON=..." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(STAMP) ## train a network on handwritten digits, optimise it, fine-tune it; the results go to out/demo
	$(BIN)/loopmorph demo --out $(OUT)

check: lint types lit test ## lint, types, lit and pytest

lint: $(STAMP) package ## ruff: rules and format; import-linter: who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/package && ../../$(BIN)/lint-imports --no-cache ../../pyproject.toml

format: $(STAMP) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The rooms where a wheel puts them, inside the package, so that each module has its one true name.
package:
	@rm -rf build/package && mkdir -p build/package/loopmorph
	@ln -s $(foreach f,$(wildcard loopmorph/*.py*),../../../$(f)) ../../../passes ../../../dialects ../../../pipelines ../../../tools build/package/loopmorph/

types: $(STAMP) package ## mypy over the whole package
	cd build/package && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

lit: $(STAMP) ## the FileCheck tests
	$(BIN)/lit -v -j $(JOBS) $(LIT_ARGS) test/lit

test: $(STAMP) ## the pytest tests; PYTEST_ARGS adds options
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

docs: $(STAMP) ## write the catalogue of transformations and schedules to build/docs/catalogue.md
	@mkdir -p build/docs
	$(BIN)/loopmorph catalogue -o build/docs/catalogue.md

wheel: $(STAMP) ## build the wheel into dist/
	@rm -rf build/lib build/bdist.* dist/loopmorph-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what the targets above have built, the environment included
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
