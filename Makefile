# Set-up, tests, demo. Everything is installed into .venv; nothing outside the checkout is touched.

PYTHON ?= python3
SALT ?= 3007.15
VENV ?= .venv
LAB ?= .lab
PILLAR ?= pillar
PYTEST_ARGS ?=
MINUTES ?= 10
SEED ?= 1

RUN = $(VENV)/bin/python

.PHONY: setup test check bench chaos demo demo-down clean

setup: $(VENV)/.ready-$(SALT)

$(VENV)/.ready-$(SALT): setup.cfg constraints.txt tools/make-venv
	PYTHON=$(PYTHON) SALT=$(SALT) tools/make-venv $(VENV)
	touch $@

test: setup check
	$(RUN) -m pytest -n 2 $(PYTEST_ARGS)

check: setup
	$(RUN) -m ruff check .
	$(RUN) -m mypy _utils/hecate _utils/hecate_*.py lab

bench: setup
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	PYTHONPATH=_utils:. $(RUN) -m bench $(AREA)

chaos: setup
	$(RUN) -m chaos --seed $(SEED) --minutes $(MINUTES) --write

demo: setup
	$(RUN) -m lab up --pillar $(PILLAR) --dir $(LAB)
	$(RUN) -m lab.demo --dir $(LAB)

demo-down: setup
	$(RUN) -m lab down --dir $(LAB)

clean:
	rm -rf $(VENV) build dist *.egg-info _utils/*.egg-info
