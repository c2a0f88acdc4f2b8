# Each line calls one real command. The machine needs Python 3.11 to 3.14 and make, nothing else.
# `make run ARGS=--once` ends after the answer; `make test ARGS=tests/store` runs some tests; PYTHON=... chooses a Python.

VENV := .venv/bin
BENCHES := start setup audit store serving soak kill leases engines predict

.PHONY: run test lint bench docs
.NOTPARALLEL:

run: .venv/.ready
	$(VENV)/catena tour $(ARGS)

test: lint
	$(VENV)/python setup/machine.py
	$(VENV)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/.ready-dev
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/pyright

bench: .venv/.ready-dev
	for bench in $(BENCHES); do $(VENV)/python bench/$$bench.py || exit 1; done

docs: .venv/.ready-dev
	$(VENV)/python -m tests.rules.tree
	$(VENV)/python -m tests.core.page
	$(VENV)/python -m tests.clients.reference
	$(VENV)/python -m tests.matrix.page
	$(VENV)/python -m tests.run.dialects.page

.venv/.ready: requirements.txt pyproject.toml
	sh setup/environment.sh $@ requirements.txt

.venv/.ready-dev: requirements-dev.txt pyproject.toml | .venv/.ready
	sh setup/environment.sh $@ requirements-dev.txt
