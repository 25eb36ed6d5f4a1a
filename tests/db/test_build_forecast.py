"""The forecast of a vector index agrees with what the server then takes, and says what to set if that is too little."""

import dataclasses
import json
import logging
import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import database, generations
from pg_semantic.database import transaction
from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.index.spec import EncoderSpec, Hnsw
from pg_semantic.operations import build_speed, doctor, reindex
from pg_semantic.worker import build_forecast, build_progress, build_records
from pg_semantic.worker.build_forecast import BuildForecast
from tests.conftest import copy_of
from tests.db import test_cli as shell
from tests.db.library import Article, Base, execute, generation_of, read_of, rows, sync
from tests.db.test_reindex import rebuilding
from tests.waiting import eventually

CHUNKS = 20_000
_FILL = "INSERT INTO article SELECT i, 'title ' || md5(i::text), NULL, 'en' FROM generate_series(1, :count) AS i"

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@pytest.fixture(scope="module")
def library(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Twenty thousand synced rows of one chunk each, for tests that change none of them."""
    with copy_of(server, template) as dsn:
        made = database.connect(dsn)
        Base.metadata.create_all(made)
        execute(made, _FILL, count=CHUNKS)
        sync(made)
        yield made
        made.dispose()


@pytest.fixture
def waiting(articles: sa.Engine) -> sa.Engine:
    """Rows that no worker has encoded yet, of a table that was analyzed."""
    execute(articles, _FILL, count=5000)
    execute(articles, "ANALYZE")
    return articles


def forecast(engine: sa.Engine, *, count: int | None = None, memory: str | None = None) -> BuildForecast:
    with transaction.begin(engine) as connection:
        return build_forecast.of_generation(connection, generation_of(engine), rows=count, memory=memory)


def size_of(engine: sa.Engine, name: str = "article_semantic_vector_idx") -> int:
    [(size,)] = rows(engine, "SELECT pg_relation_size(:name)", name=name)
    return int(size)


def set_for_new_sessions(engine: sa.Engine, **settings: object) -> None:
    """Sets what sessions of this database start with."""
    for name, value in settings.items():
        execute(engine, f"ALTER DATABASE {engine.url.database} SET {name} = '{value}'")
    engine.dispose()


def outgrown(engine: sa.Engine, memory: str, caplog: pytest.LogCaptureFixture) -> list[int]:
    """Rebuilds with this memory; returns after how many chunks the server said that it didn't suffice."""
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        reindex.reindex(engine, generation_of(engine), memory=memory)
    return [int(found) for found in re.findall(r"no longer fits into maintenance_work_mem after (\d+)", caplog.text)]


def test_chunks_that_edits_left_behind_are_not_in_the_forecast(waiting: sa.Engine) -> None:
    execute(waiting, "ALTER TABLE article_semantic SET (autovacuum_enabled = false)")
    sync(waiting)
    execute(waiting, "UPDATE article SET title = 'edited ' || id WHERE id <= 3500")
    sync(waiting)
    waiting.dispose()  # sessions report what they wrote when they end
    eventually(lambda: forecast(waiting).chunks == pytest.approx(5000, rel=0.02), "the statistics")
    assert forecast(waiting).basis == "estimated"
    dead = "SELECT pg_stat_get_dead_tuples('article_semantic'::regclass)"
    eventually(lambda: rows(waiting, dead)[0][0] > 3000, "dead chunks")
    assert forecast(waiting).chunks == pytest.approx(5000, rel=0.02)


def test_an_index_of_twenty_thousand_chunks_has_the_forecast_size(library: sa.Engine) -> None:
    found = forecast(library)
    assert found.chunks == pytest.approx(CHUNKS, rel=0.02)
    assert size_of(library) == pytest.approx(found.index_bytes, rel=0.05)


@pytest.mark.parametrize("storage", ["halfvec", "vector"])
@pytest.mark.parametrize(("dimensions", "m"), [(384, 16), (100, 40), (700, 5)])
def test_other_shapes_have_the_forecast_size_too(engine: sa.Engine, storage: str, dimensions: int, m: int) -> None:
    count = 1500
    execute(engine, f"CREATE TABLE apart (v {storage}({dimensions}))")
    vector = "ARRAY(SELECT random() FROM generate_series(1, :dimensions) WHERE i > 0)::real[]"
    fill = f"INSERT INTO apart SELECT {vector} FROM generate_series(1, :count) AS i"
    execute(engine, fill, dimensions=dimensions, count=count)
    index = f"USING hnsw (v {storage}_cosine_ops) WITH (m = {m}, ef_construction = {2 * m})"
    execute(engine, f"CREATE INDEX apart_idx ON apart {index}")
    shape = HnswShape(dimensions, "vector" if storage == "vector" else "halfvec", m)
    assert size_of(engine, "apart_idx") == pytest.approx(hnsw_size.index_bytes(count, shape), rel=0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_graph_outgrows_its_memory_when_the_forecast_says(
    library: sa.Engine, caplog: pytest.LogCaptureFixture, processes: int
) -> None:
    set_for_new_sessions(library, max_parallel_maintenance_workers=processes - 1)
    execute(library, f"ALTER TABLE article_semantic SET (parallel_workers = {processes - 1})")
    found = forecast(library)
    assert found.processes == processes
    shape = HnswShape.of(generation_of(library).spec)
    graph = hnsw_size.graph_bytes(CHUNKS, shape, parallel=processes > 1)
    unused = 4 * 2**20 if processes > 1 else 0
    memory = (round(0.93 * graph) + unused) >> 20
    [fitted] = outgrown(library, f"{memory}MB", caplog)
    assert fitted == pytest.approx(CHUNKS * ((memory << 20) - unused) / graph, rel=0.05)
    caplog.clear()
    assert outgrown(library, hnsw_size.as_setting(found.memory_bytes), caplog) == []


def test_the_memory_is_not_asked_for_twice(library: sa.Engine) -> None:
    needed = forecast(library, memory="1MB")
    assert not needed.fits
    [problem] = needed.problems
    value = hnsw_size.as_setting(needed.memory_bytes)
    assert f"PG_SEMANTIC_MAINTENANCE_WORK_MEM={value}" in problem
    assert f"SET maintenance_work_mem = '{value}'" in problem
    assert forecast(library, memory=value).problems == ()


def test_shared_memory_of_a_parallel_build_is_compared_with_that_of_the_server(library: sa.Engine) -> None:
    set_for_new_sessions(library, max_parallel_maintenance_workers=2)
    execute(library, "ALTER TABLE article_semantic SET (parallel_workers = 2)")
    found = forecast(library, memory="9TB")
    assert (found.processes, found.shared_memory_bytes) == (3, (9 << 40) - (3 << 20))
    assert "--shm-size" in found.problems[-1]
    execute(library, "ALTER TABLE article_semantic SET (parallel_workers = 0)")
    assert forecast(library, memory="9TB").shared_memory_bytes == 0


def test_nothing_is_counted_in_a_table_that_was_analyzed(library: sa.Engine) -> None:
    generation = generation_of(library)
    with transaction.begin(library) as connection:
        before = read_of(connection, "article_semantic")
        build_forecast.of_generation(connection, generation)
        assert read_of(connection, "article_semantic") == before


def test_a_forecast_is_made_before_the_first_row_is_encoded(waiting: sa.Engine) -> None:
    found = forecast(waiting)
    assert (found.chunks, found.basis, found.seconds) == (5000, "one per row", None)
    assert forecast(waiting, count=1_000_000).index_bytes > 100 * found.index_bytes
    sync(waiting)
    assert size_of(waiting) == pytest.approx(found.index_bytes, rel=0.05)


@pytest.mark.parametrize("count", [0, 1])
def test_an_index_of_one_row_or_of_none(articles: sa.Engine, dsn: str, count: int) -> None:
    execute(articles, _FILL, count=count)
    sync(articles)
    found = shell.parsed("index", "forecast", "article_semantic", dsn=dsn)
    assert (found["chunks"], found["index_bytes"], found["fits"]) == (count, 2 * 8192, True)
    if count:
        assert size_of(articles) == found["index_bytes"]


def test_more_rows_have_as_many_chunks_per_row_as_those_so_far(library: sa.Engine) -> None:
    found = forecast(library, count=1_000_000)
    assert found.basis == "from rows"
    assert found.chunks == pytest.approx(1_000_000, rel=0.02)


def test_an_unknown_index_is_named_with_those_that_exist(articles: sa.Engine, dsn: str) -> None:
    for command in (["index", "forecast"], ["reindex"]):
        said = shell.error(*command, "nope", dsn=dsn)
        assert "No semantic index 'nope'" in said
        assert "public.article_semantic" in said


def test_the_command_exits_with_1_and_says_what_to_set(waiting: sa.Engine, dsn: str) -> None:
    done = shell.run("index", "forecast", "article_semantic", "--rows", "1000000", "--memory", "64MB", dsn=dsn)
    assert done.returncode == 1
    assert "does not fit into maintenance_work_mem (64.0 MB)" in done.stdout
    assert "Set PG_SEMANTIC_MAINTENANCE_WORK_MEM=" in done.stdout
    shell.ok("index", "forecast", "article_semantic", "--rows", "1000000", "--memory", "2GB", dsn=dsn)
    said = shell.error("index", "forecast", "article_semantic", "--memory", "lots", dsn=dsn)
    assert "PG_SEMANTIC_MAINTENANCE_WORK_MEM is invalid" in said


def test_a_worker_says_before_it_builds_what_the_server_is_short_of(
    waiting: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    set_for_new_sessions(waiting, maintenance_work_mem="1MB", max_parallel_maintenance_workers=0)
    with caplog.at_level(logging.INFO, "pg_semantic"):
        sync(waiting)
    said = [record.getMessage() for record in caplog.records]
    begun = next(number for number, text in enumerate(said) if "5000 chunks, an index of" in text)
    short = next(number for number, text in enumerate(said) if "Set PG_SEMANTIC_MAINTENANCE_WORK_MEM=" in text)
    slow = next(number for number, text in enumerate(said) if "no longer fits" in text)
    assert begun < short < slow
    assert rows(waiting, "SELECT in_memory, chunks FROM semantic.vector_index_build") == [(False, 5000)]


def test_the_setting_of_the_worker_gives_its_builds_more_memory(
    waiting: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    set_for_new_sessions(waiting, maintenance_work_mem="1MB", max_parallel_maintenance_workers=0)
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(waiting, maintenance_work_mem=hnsw_size.as_setting(forecast(waiting).memory_bytes))
    assert "maintenance_work_mem" not in caplog.text
    assert rows(waiting, "SELECT in_memory FROM semantic.vector_index_build") == [(True,)]
    assert rows(waiting, "SHOW maintenance_work_mem") == [("1MB",)]


def test_the_doctor_finds_an_index_that_will_be_short_of_memory(
    waiting: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_for_new_sessions(waiting, maintenance_work_mem="1MB", max_parallel_maintenance_workers=0)

    def found() -> list[doctor.Finding]:
        return [one for one in doctor.examine(waiting) if one.check == "build_memory"]

    [finding] = found()
    assert "maintenance_work_mem is 1.0 MB" in finding.what
    assert finding.repair.startswith("PG_SEMANTIC_MAINTENANCE_WORK_MEM=4MB ")
    monkeypatch.setenv("PG_SEMANTIC_MAINTENANCE_WORK_MEM", "4MB")
    assert found() == []
    monkeypatch.delenv("PG_SEMANTIC_MAINTENANCE_WORK_MEM")
    sync(waiting)
    assert found() == []


def test_a_copy_that_will_be_short_of_memory_is_begun_with_a_warning(library: sa.Engine) -> None:
    live = generation_of(library)
    wide = dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:96", 96), storage="vector", hnsw=Hnsw(m=32))
    spent = generations.disk(library, live, wide, memory="8MB")
    assert (spent.build.chunks, spent.build.basis) == (CHUNKS, "counted")
    assert spent.build.index_bytes == hnsw_size.index_bytes(CHUNKS, HnswShape(96, "vector", 32))
    assert "maintenance_work_mem is 8.0 MB" in spent.build.problems[0]


def test_the_time_comes_from_an_earlier_build_of_the_same_kind(library: sa.Engine) -> None:
    with library.connect() as connection:
        [known] = build_records.read(connection).values()
    assert forecast(library).seconds == pytest.approx(known.seconds, rel=0.05)
    twice = forecast(library, count=2 * CHUNKS).seconds
    assert twice is not None
    assert 2 < twice / known.seconds < 2.2
    spec = dataclasses.replace(known.spec, hnsw=Hnsw(m=32))
    assert build_records.seconds_from([known], CHUNKS, spec=spec) is None
    slow = dataclasses.replace(known, in_memory=False)
    assert build_records.seconds_from([slow], CHUNKS, spec=known.spec) is None


def test_the_log_says_how_far_a_build_is(articles: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    execute(articles, _FILL, count=20)
    sync(articles)
    stored = generation_of(articles).stored
    often, seldom = (build_progress.ProgressLog(articles, stored, "title", every_seconds=wait) for wait in (0, 3600))
    with caplog.at_level(logging.INFO, "pg_semantic.worker"):
        often()
        with rebuilding(articles):
            often()
            seldom()
    assert [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "index_progress"] == [
        "title: waiting for writers before build, 0 chunks"
    ]


@pytest.mark.parametrize("synced", [False, True])
def test_a_sample_is_measured_and_leaves_nothing_behind(articles: sa.Engine, dsn: str, *, synced: bool) -> None:
    execute(articles, _FILL, count=1200)
    if synced:
        sync(articles)
    tables = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'i') ORDER BY relname"
    before = rows(articles, tables)
    measured = build_speed.measure(articles, generation_of(articles), sample=1500)
    assert measured.chunks == (1200 if synced else 1500)
    assert rows(articles, tables) == before
    found = json.loads(shell.run("index", "forecast", "article_semantic", "--measure", "--json", dsn=dsn).stdout)
    assert found["seconds"] > 0
    assert Article.semantic.spec.name in found["index"]
