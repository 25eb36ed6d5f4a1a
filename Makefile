# Everything that a person runs. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-16 test-17 test-isa test-sqlalchemy-20 check format \
	bench-scifact bench-bm25 bench-search bench-sql bench-serve bench-queue bench-writes bench-locks \
	bench-freshness bench-encode bench-gpu bench-memory bench-sync chaos checksums clean bench-capture bench-policies

PYTHON ?= python3
VENV := .venv
# A worker has a server and encoders of its own, of 2 GB; the tests of a file share what they made ready.
PYTEST := -m pytest --numprocesses 2 --dist loadfile
INSTALLED := $(VENV)/installed

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## create .venv with the package, its extras and the tools

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install  ## load, encode and search 7,425 tldr pages on an embedded Postgres
	$(VENV)/bin/pg-semantic demo

test: install  ## run the tests, on an embedded Postgres
	$(VENV)/bin/python $(PYTEST)

# What another server could do otherwise: plans, DDL, catalogs, statements. Workers and processes are the same on each.
VERSIONED := explain search snippets term_statistics create_and_drop capture capture_sizes capture_columns partitions verify jobqueue migrate dump \
	generations generation_columns generation_ghosts generation_locks generation_rights \
	altered_by_migration autogenerate autogenerate_refused sql_search sql_queries

test-16: install  ## run the tests of plans, statements and DDL on PostgreSQL 16
	TEST_POSTGRES_VERSION=16 $(VENV)/bin/python $(PYTEST) $(VERSIONED:%=tests/db/test_%.py)

# A full server, where the embedded one is not enough: scripts/full-postgres.sh says what it is. Needs root.
FULL_POSTGRES ?= /var/tmp/pg_semantic/postgres-17
ON_FULL_POSTGRES := scripts/full-postgres.sh run $(FULL_POSTGRES) 54917

test-17: install  ## run the tests of plain SQL on a full PostgreSQL 17 (Debian's, in a folder; needs root)
	scripts/full-postgres.sh install $(FULL_POSTGRES)
	$(ON_FULL_POSTGRES) $(VENV)/bin/python -m pytest tests/full

test-sqlalchemy-20: install  ## run the tests of declarations and searches on SQLAlchemy 2.0
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/sqlalchemy-20 'sqlalchemy==2.0.*'
	PYTHONPATH=$(VENV)/sqlalchemy-20 $(VENV)/bin/python -c \
		"import sqlalchemy; assert sqlalchemy.__version__.startswith('2.0')"
	PYTHONPATH=$(VENV)/sqlalchemy-20 $(VENV)/bin/python $(PYTEST) tests/unit/test_declare.py \
		tests/unit/test_declare_neighbours.py \
		tests/unit/test_statements.py tests/db/test_declared.py tests/db/test_search.py tests/db/test_explain.py \
		tests/db/test_recall.py tests/db/test_eager_collections.py \
		tests/db/test_generations.py tests/db/test_altered_by_migration.py \
		tests/unit/test_migration_text.py tests/db/test_autogenerate.py tests/db/test_autogenerate_refused.py

check: install  ## formatting, lint, layers, types, SQL
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(VENV)/bin/python scripts/check_sql.py

format: install  ## format the code and fix what ruff can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench-scifact: install  ## relevance on SciFact: nDCG@10, exact and through the vector index
	$(VENV)/bin/python -m benchmarks.scifact

bench-bm25: install  ## BM25 against ts_rank_cd on 82,928 abstracts
	$(VENV)/bin/python -m benchmarks.bm25

bench-search: install  ## what our statement costs against one by hand, and searches by text from end to end
	$(VENV)/bin/python -m benchmarks.search

bench-sql: install  ## what a SELECT pays for having its text encoded by a worker, on a full PostgreSQL 17 (needs root)
	scripts/full-postgres.sh install $(FULL_POSTGRES)
	$(ON_FULL_POSTGRES) $(VENV)/bin/python -m benchmarks.sql

bench-policies: install  ## what row-level security costs a search, by whether it asks the table
	$(VENV)/bin/python -m benchmarks.policies

bench-queue: install  ## what a claim costs at 1,000,000 pending jobs against 10,000
	$(VENV)/bin/python -m benchmarks.queue

bench-capture: install  ## what capture adds to statements of every kind and size, and to the edits after a large one
	$(VENV)/bin/python -m benchmarks.capture

bench-writes: install  ## what capture and workers cost the application that writes
	$(VENV)/bin/python -m benchmarks.writes

bench-locks: install  ## how long writers wait while an index is created, changed and dropped
	$(VENV)/bin/python -m benchmarks.locks

bench-freshness: install  ## from commit to searchable, with the real encoder, idle and in a backfill
	$(VENV)/bin/python -m benchmarks.freshness

bench-encode: install  ## encoding speed against sentence-transformers' defaults and against the machine's peak
	$(VENV)/bin/python -m benchmarks.encode

bench-gpu: install  ## encoding speed on a CUDA device
	$(VENV)/bin/python -m benchmarks.gpu

bench-serve: install  ## the service under load: many clients against one, overload, SIGTERM
	$(VENV)/bin/python -m benchmarks.serve

bench-sync: install  ## from nothing to searchable: the worker against its encoder and against a script, and its memory
	$(VENV)/bin/python -m benchmarks.sync

bench-memory: install  ## a worker's memory on 400 rows of 2 MB, and the time to cut texts without sentences
	$(VENV)/bin/python -m benchmarks.memory

# What the CPU multiplies with: oneDNN, inside OpenVINO and torch, obeys the first, torch's own code the second.
ON_ISA := tests/acceptance/test_int8.py tests/acceptance/test_instruction_sets.py tests/acceptance/test_any_encoder.py \
	tests/acceptance/test_back_ends.py tests/unit/test_backends.py
ISA ?= AVX2 AVX512_CORE_VNNI

test-isa: install  ## run the tests of encoders on a part of this CPU's instructions: ISA='AVX2 AVX512_CORE_VNNI'
	$(foreach isa,$(ISA),ONEDNN_MAX_CPU_ISA=$(isa) ATEN_CPU_CAPABILITY=$(if $(filter AVX2,$(isa)),avx2,avx512) \
		$(VENV)/bin/python $(PYTEST) $(ON_ISA) &&) true

chaos: install  ## kill workers and Postgres under a write load, then compare all text with all vectors
	$(VENV)/bin/python -m benchmarks.chaos

checksums:  ## list the migrations' checksums again: for a revision that is in no release yet
	cd migrations && find versions -name '*.py' -o -name '*.sql' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS

clean:  ## remove .venv, the demo's data and caches
	test ! -d .demo || $(VENV)/bin/pg-semantic db stop .demo
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
