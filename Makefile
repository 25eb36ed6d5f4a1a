# Everything that developers run. `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-16 test-17 test-isa test-sqlalchemy-20 check format \
	bench-scifact bench-bm25 bench-search bench-sql bench-serve bench-queue bench-writes bench-locks \
	bench-tune bench-train bench-train-to-live bench-rerank-train bench-static bench-mine bench-duplicates \
	bench-freshness bench-index-size bench-row-size bench-compressed bench-encode bench-gpu bench-memory bench-sync \
	bench-capture bench-policies bench-recovery bench-feed bench-bulk-edit bench-million \
	chaos chaos-ray checksums clean docs

PYTHON ?= python3
VENV := .venv
# Each test process has its own server and encoders (2 GB); the tests of a file share their fixtures.
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
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

test: install  ## run the tests on an embedded Postgres
	$(VENV)/bin/python $(PYTEST)

# Tests whose results can differ between server versions: plans, DDL, catalogs, statements. Workers don't differ.
VERSIONED := backlog explain search snippets term_statistics create_and_drop capture capture_sizes \
	capture_columns partitions verify jobqueue migrate dump \
	generations generation_columns generation_ghosts generation_locks generation_privileges \
	altered_by_migration autogenerate autogenerate_refused sql_search sql_queries

test-16: install  ## run the tests of plans, statements and DDL on PostgreSQL 16
	TEST_POSTGRES_VERSION=16 $(VENV)/bin/python $(PYTEST) $(VERSIONED:%=tests/db/test_%.py)

# A full server, for tests that need more than the embedded one (see scripts/full-postgres.sh). Needs root.
FULL_POSTGRES ?= /var/tmp/pg_semantic/postgres-17
ON_FULL_POSTGRES := scripts/full-postgres.sh run $(FULL_POSTGRES) 54917

test-17: install  ## run the tests of plain SQL on a full PostgreSQL 17 (Debian's, in a folder; needs root)
	scripts/full-postgres.sh install $(FULL_POSTGRES)
	$(ON_FULL_POSTGRES) $(VENV)/bin/python -m pytest tests/full

# pgvector 0.3.6 has no __init__.py, and without one Python would find the newer release behind it on the path.
test-sqlalchemy-20: install  ## run the tests of declarations and searches on SQLAlchemy 2.0 and pgvector 0.3.6
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/sqlalchemy-20 'sqlalchemy==2.0.*' 'pgvector==0.3.6'
	touch $(VENV)/sqlalchemy-20/pgvector/__init__.py
	PYTHONPATH=$(VENV)/sqlalchemy-20 $(VENV)/bin/python -c \
		"import sqlalchemy; assert sqlalchemy.__version__.startswith('2.0'); import pgvector.utils.halfvec"
	PYTHONPATH=$(VENV)/sqlalchemy-20 $(VENV)/bin/python $(PYTEST) tests/unit/test_declare.py \
		tests/unit/test_declare_neighbours.py tests/unit/test_vector_types.py \
		tests/unit/test_statements.py tests/db/test_declared.py tests/db/test_search.py tests/db/test_explain.py \
		tests/db/test_recall.py tests/db/test_eager_collections.py tests/db/test_async_search.py \
		tests/db/test_generations.py tests/db/test_altered_by_migration.py \
		tests/unit/test_migration_text.py tests/db/test_autogenerate.py tests/db/test_autogenerate_refused.py

check: install  ## check formatting, lint, layers, types, SQL and words
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(VENV)/bin/python scripts/check_sql.py
	$(VENV)/bin/python scripts/check_words.py

docs: install  ## build the documentation site in docs/_build, and update the generated parts of the reference
	$(VENV)/bin/python -m scripts.generate_reference
	$(VENV)/bin/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build

format: install  ## format the code and apply ruff's fixes
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench-scifact: install  ## measure relevance on SciFact: nDCG@10, exact and through the vector index
	$(VENV)/bin/python -m benchmarks.scifact

bench-tune: install  ## tune a hybrid search on SciFact's training claims, and measure it on the test claims
	$(VENV)/bin/python -m benchmarks.tune

bench-train: install  ## train the queries' side of an encoder on SciFact, roll it out, and measure the gain
	$(VENV)/bin/python -m benchmarks.train

bench-train-to-live: install  ## measure the time from training to searching with the new encoder, at 100,000 chunks
	$(VENV)/bin/python -m benchmarks.train_to_live

bench-static: install  ## distill an encoder into a table of words on SciFact, and compare relevance and speed
	$(VENV)/bin/python -m benchmarks.static_student

bench-rerank-train: install  ## train a reranker on SciFact's training claims, and measure it on the test claims
	$(VENV)/bin/python -m benchmarks.train_reranker

bench-bm25: install  ## compare BM25 with ts_rank_cd on 82,928 abstracts
	$(VENV)/bin/python -m benchmarks.bm25

bench-search: install  ## measure our statement against a handwritten one, and searches by text end to end
	$(VENV)/bin/python -m benchmarks.search

bench-duplicates: install  ## measure the search for near-duplicates on 7,425 tldr pages, compared with numpy
	$(VENV)/bin/python -m benchmarks.duplicates

bench-sql: install  ## measure the cost of a worker's encoding to a SELECT, on a full PostgreSQL 17 (needs root)
	scripts/full-postgres.sh install $(FULL_POSTGRES)
	$(ON_FULL_POSTGRES) $(VENV)/bin/python -m benchmarks.sql

bench-policies: install  ## measure the cost of row-level security to a search, with and without policy_column
	$(VENV)/bin/python -m benchmarks.policies

bench-queue: install  ## compare the cost of a claim at 1,000,000 pending jobs with that at 10,000
	$(VENV)/bin/python -m benchmarks.queue

bench-feed: install  ## measure how fast a worker writes if encoding costs nothing, against COPY and an earlier worker
	$(VENV)/bin/python -m benchmarks.feed

bench-million: install  ## measure a million rows: load, backfill, build, searches, status, memory and WAL
	$(VENV)/bin/python -m benchmarks.million

bench-bulk-edit: install  ## measure single edits after an UPDATE of 5,000,000 texts, until all are synced
	$(VENV)/bin/python -m benchmarks.bulk_edit

bench-recovery: install  ## measure how soon the rows of a killed worker are synced
	$(VENV)/bin/python -m benchmarks.recovery

bench-capture: install  ## measure what capture adds to statements, and to edits after a large one
	$(VENV)/bin/python -m benchmarks.capture

bench-writes: install  ## measure the cost of capture and workers to the application that writes
	$(VENV)/bin/python -m benchmarks.writes

bench-locks: install  ## measure how long writers wait while an index is created, changed and dropped
	$(VENV)/bin/python -m benchmarks.locks

bench-freshness: install  ## measure the time from commit to searchable, idle and during a backfill
	$(VENV)/bin/python -m benchmarks.freshness

bench-index-size: install  ## compare the forecast size of vector indexes and of their graphs with a server's
	$(VENV)/bin/python -m benchmarks.index_size

bench-row-size: install  ## measure the bytes of a row in the tables of an index, and the WAL of its backfill
	$(VENV)/bin/python -m benchmarks.row_size

bench-compressed: install  ## compare compressed vector indexes with a plain one on WordNet (CORPUS=corpus.jsonl.gz)
	$(VENV)/bin/python -m benchmarks.compressed --corpus $(CORPUS)

bench-encode: install  ## compare encoding speed with sentence-transformers' defaults and the machine's peak
	$(VENV)/bin/python -m benchmarks.encode

bench-gpu: install  ## measure encoding speed on a CUDA device
	$(VENV)/bin/python -m benchmarks.gpu

bench-mine: install  ## mine hard negatives on SciFact, and compare them with those of sentence-transformers
	$(VENV)/bin/python -m benchmarks.mine

bench-serve: install  ## measure the service under load: one client, many clients, overload, SIGTERM
	$(VENV)/bin/python -m benchmarks.serve

bench-sync: install  ## compare a full sync with the bare encoder and with a script, and measure memory
	$(VENV)/bin/python -m benchmarks.sync

bench-memory: install  ## measure a worker's memory on 400 rows of 2 MB, and the time to split texts without sentences
	$(VENV)/bin/python -m benchmarks.memory

# Limits CPU instructions: oneDNN, in OpenVINO and torch, obeys the first variable, torch's own code the second.
ON_ISA := tests/acceptance/test_int8.py tests/acceptance/test_instruction_sets.py tests/acceptance/test_any_encoder.py \
	tests/acceptance/test_back_ends.py tests/unit/test_backends.py
ISA ?= AVX2 AVX512_CORE_VNNI

test-isa: install  ## run the encoder tests with limited CPU instructions: ISA='AVX2 AVX512_CORE_VNNI'
	$(foreach isa,$(ISA),ONEDNN_MAX_CPU_ISA=$(isa) ATEN_CPU_CAPABILITY=$(if $(filter AVX2,$(isa)),avx2,avx512) \
		$(VENV)/bin/python $(PYTEST) $(ON_ISA) &&) true

chaos: install  ## kill workers and Postgres under a write load, then compare all texts with their vectors
	$(VENV)/bin/python -m benchmarks.chaos

chaos-ray: install  ## kill actors of Ray, a worker and a backfill under edits, then verify the index
	$(VENV)/bin/python -m benchmarks.chaos_ray

checksums:  ## update the checksums of migrations, for a revision that isn't released yet
	cd migrations && find versions -name '*.py' -o -name '*.sql' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS

clean:  ## remove .venv, the demo's data and the caches
	test ! -d .demo || $(VENV)/bin/pg-semantic db stop .demo
	rm -rf $(VENV) .demo docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
