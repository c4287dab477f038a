# Everything is installed into .venv, in exactly the versions of constraints.txt.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test mutants bench bench-full check docs format lock clean

# Nothing from outside the checkout: no modules from elsewhere, no installs to elsewhere.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export PIP_USER := 0

PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11)
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns about every editable install, at length.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The stamp holds the path: an environment that was moved, or whose Python is gone, is made again.
ifneq ($(shell cat $(VENV)/made 2>/dev/null && $(BIN)/python -c '' 2>/dev/null && echo works),$(CURDIR) works)
.PHONY: $(VENV)/made
endif

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/all ## Cut the sample photographs end to end and show where the pictures are
	@$(BIN)/cutwork demo

test: $(VENV)/dev ## Run the tests with coverage; ARGS="-k name" runs some of them, without
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--quiet --numprocesses 3 --dist loadfile --no-loadscope-reorder --reruns 1 --cov)

mutants: $(VENV)/dev ## Test the tests: each protection that is taken out must make one fail
	$(BIN)/python -m tests.mutants
	$(BIN)/python -m tests.mutants.table

bench: $(VENV)/bench ## Measure against ceilings and peers, in minutes; needs PostgreSQL, Redis, RabbitMQ
	$(BIN)/python -m bench

bench-full: $(VENV)/bench ## The same with millions of rows and more rounds
	$(BIN)/python -m bench --full

check: $(VENV)/dev ## Look for faults without running anything: style, types, imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/docs ## Build the site into build/site
	$(BIN)/python docs/stage.py build/pages
	$(BIN)/mkdocs build --quiet --strict

format: $(VENV)/dev ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## Pin the newest versions that fit pyproject.toml (needs Python 3.11, the oldest supported)
	@python=$$(.ci/find-python $(if $(PYTHON),"$(PYTHON)",python3.11)) && .ci/lock "$$python"

clean: ## Remove the environment and whatever the tools left; jobs and pictures stay
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made:
	@python=$$(.ci/find-python $(PYTHONS)) && \
	    echo "Creating $(VENV) with $$("$$python" --version)" && \
	    "$$python" -m venv --clear $(VENV)
	@$(INSTALL) --upgrade pip setuptools
	@echo "$(CURDIR)" > $@

$(VENV)/all: $(VENV)/made pyproject.toml constraints.txt
	@echo "Installing cutwork and the versions of constraints.txt into $(VENV) (about a minute)"
	@$(INSTALL) --build-constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/dev: $(VENV)/all
	@echo "Installing what the tests and checks need"
	@$(INSTALL) --build-constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

$(VENV)/docs: $(VENV)/all
	@echo "Installing what builds the site"
	@$(INSTALL) --build-constraint constraints.txt --editable '.[all]' --group docs
	@touch $@

$(VENV)/bench: $(VENV)/dev
	@echo "Installing the peers that are measured beside us"
	@$(INSTALL) --build-constraint constraints.txt --editable '.[all]' --group dev --group bench
	@touch $@
