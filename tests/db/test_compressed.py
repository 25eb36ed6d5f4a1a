"""A compressed vector index: what it contains is filled and kept true, no row is lost, and vectors decide the order."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column
from typer.testing import CliRunner

from pg_semantic import Compressed, Searcher, SemanticIndex, cli, database, errors, generations, registry, search
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.generations import recall_before_switch
from pg_semantic.operations import repair, verify
from pg_semantic.registry import Generation
from pg_semantic.search import Options
from pg_semantic.settings import Settings
from pg_semantic.worker import prefixes
from pg_semantic.worker.index_builder import IndexBuilder
from tests.conftest import copy_of
from tests.db import copies
from tests.db.copies import NAME, all_of, begin, switched
from tests.db.library import Article, encoder, execute, generation_of, rows, sync
from tests.db.test_dump import dump_and_restore

PREFIX, BITS = Compressed(prefix=12), Compressed(bits=True)
BOTH = pytest.mark.parametrize("compressed", [PREFIX, BITS], ids=str)

fill = copies.fill  # for the fixture filled


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    """Five rows, with their vectors."""
    return filled


class Base(orm.DeclarativeBase): ...


class Short(Base):
    """Three thousand notes of which some have several chunks."""

    __tablename__ = "short"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    kind: Mapped[int]

    semantic = SemanticIndex("text", encoder="hashed:32", storage=PREFIX)
    signs = SemanticIndex("text", encoder="hashed:32", storage=BITS, lexical=None)


@pytest.fixture(scope="module")
def library(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Three thousand rows; not written to by any test here."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        random = np.random.default_rng(3)
        words = [f"{a}{b}" for a in ("har", "can", "mea", "eng", "vio", "gla") for b in "abcdefgh"]
        texts = [" ".join(random.choice(words, random.integers(3, 12))) for _ in range(3000)]
        with engine.begin() as connection:
            notes = [{"id": number, "text": text, "kind": number % 100} for number, text in enumerate(texts)]
            connection.execute(sa.insert(Short), notes)
        sync(engine)
        execute(engine, "ANALYZE")
        yield engine
        engine.dispose()


def plan_of(engine: sa.Engine, statement: sa.Executable, **settings: str) -> str:
    with Session(engine) as session:
        for name, value in settings.items():
            session.execute(sa.text(f"SET LOCAL {name} = {value}"))
        return str(search.explain(session, statement))  # type: ignore[arg-type]


def nearest(engine: sa.Engine, statement: "sa.Select[Short, float]") -> list[float]:
    with Session(engine) as session:
        return [score for _, score in session.execute(statement)]


INDEXES = pytest.mark.parametrize("index", [Short.semantic, Short.signs], ids=["prefix", "bits"])


@INDEXES
def test_the_first_stage_scans_the_index_and_the_second_orders_by_the_vectors(library: sa.Engine, index: Any) -> None:
    [vector] = HashedEncoder(32).encode_queries(["hara canb meac"])
    statement = search.knn(index, vector, limit=5).where(Short.kind < 90)
    with Session(library) as session:
        plan = search.explain(session, statement)
    assert plan.uses_vector_index, plan.text
    assert plan.reasons == ()
    assert plan.text.startswith("Limit")
    assert "kind" in plan.text.split("_vector_idx")[1]  # the filter is where the index is scanned


@INDEXES
@pytest.mark.parametrize("kinds", [100, 50, 3, 1])
def test_a_search_finds_as_many_rows_as_there_are_in_the_order_of_their_vectors(
    library: sa.Engine, index: Any, kinds: int
) -> None:
    for vector in HashedEncoder(32).encode_queries(["hara canb meac", "engd", "vioe glaf hara"]):
        for limit, offset in ((1, 0), (10, 0), (10, 5), (100, 0)):
            found = nearest(library, search.knn(index, vector, limit=limit, offset=offset).where(Short.kind < kinds))
            assert len(found) == min(limit, max(0, kinds * 30 - offset))
            assert found == sorted(found, reverse=True)
        every = nearest(library, search.knn(index, vector, limit=10, ef_search=1000).where(Short.kind < kinds))
        exact = nearest(library, search.exact(index, vector, limit=10).where(Short.kind < kinds))
        assert np.mean(np.isclose(every, exact, atol=1e-3)) >= 0.9


@INDEXES
def test_a_searcher_finds_what_knn_finds_and_filters_apply_to_the_first_stage(library: sa.Engine, index: Any) -> None:
    with Session(library) as session:
        searcher = Searcher(HashedEncoder(32))
        hits = searcher.search(session, index, "hara canb", limit=10, where=[Short.kind == 7])
        assert len(hits) == 10
        assert {hit.entity.kind for hit in hits} == {7}
        [vector] = HashedEncoder(32).encode_queries(["hara canb"])
        exact = nearest(library, search.exact(index, vector, limit=10).where(Short.kind == 7))
        assert [hit.score for hit in hits] == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("name", "least"), [("semantic", 0.8), ("signs", 0.1)])
def test_plain_sql_searches_in_two_stages(library: sa.Engine, name: str, least: float) -> None:
    [vector] = HashedEncoder(32).encode_queries(["hara canb"])
    exact = nearest(library, search.exact(Short.semantic, vector, limit=10))
    generation = generation_named(library, f"short_{name}")
    asked = f"asked ('{vector.tolist()}', '', 10, NULL, NULL)"
    with library.begin() as connection:
        made = sa.text("SELECT semantic.search_sql_v1(:id, 'dense', 10, false)")
        statement = connection.scalar(made, {"id": generation.id})
        types = "(vector, text, integer, double precision, integer[])"
        connection.exec_driver_sql(f"PREPARE asked {types} AS {statement}")
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN EXECUTE {asked}").scalars())
        found = [row[1] for row in connection.exec_driver_sql(f"EXECUTE {asked}")]
        connection.exec_driver_sql("DEALLOCATE asked")
    assert f"short_{name}_vector_idx" in plan
    assert found == sorted(found, reverse=True)
    assert np.mean(np.isclose(found, exact, atol=1e-3)) >= least


def generation_named(engine: sa.Engine, name: str) -> Generation:
    with engine.connect() as connection:
        return registry.find(connection, name)


def wrong_prefixes(engine: sa.Engine, generation: Generation) -> int:
    """How many chunks have none, or not the one that the database computes from their vector."""
    statement = sa.text(
        f"SELECT count(*) FROM semantic.chunks_{generation.id} WHERE prefix IS NULL OR "
        "(prefix <=> CAST(semantic.rotated_v1(:id, NULL, CAST(vector AS vector)) AS halfvec)) > 0.001"
    )
    with engine.connect() as connection:
        return int(connection.scalar(statement, {"id": generation.id}) or 0)


@BOTH
def test_a_copy_is_built_switched_to_and_back(synced: sa.Engine, compressed: Compressed) -> None:
    before = generation_of(synced).spec
    begin(synced, compressed=compressed)
    assert sync(synced).chunks_encoded == 0
    generations.switch(synced, NAME)
    assert generation_of(synced).spec == dataclasses.replace(before, compressed=compressed)
    execute(synced, "UPDATE article SET title = 'walnut' WHERE id = 2")
    sync(synced)
    with Session(synced) as session:
        [best, *_] = Searcher(encoder()).search(session, Article.semantic, "walnut", limit=1)
        assert best.entity.id == 2
    assert all(verify.verify(synced, one).clean for one in all_of(synced).values())
    generations.rollback(synced, NAME)
    assert generation_of(synced).spec == before
    generations.drop(synced, NAME, "next", grace_seconds=0)


def test_the_worker_fills_prefixes_and_later_writes_them_with_the_vectors(synced: sa.Engine) -> None:
    switched(synced, compressed=PREFIX)
    live = generation_of(synced)
    assert wrong_prefixes(synced, live) == 0
    made = rows(synced, "SELECT vectors, filled_at IS NOT NULL, cardinality(axes) FROM semantic.basis")
    assert made == [(len(copies.TEXTS), True, 12)]
    execute(synced, "UPDATE article SET title = 'walnut copper' WHERE id = 2")
    execute(synced, "INSERT INTO article (id, title, lang) VALUES (9, 'ribbon saddle', 'en')")
    sync(synced)
    assert wrong_prefixes(synced, live) == 0
    assert len(rows(synced, "SELECT made_at FROM semantic.basis")) == 1


def test_the_axes_are_orthonormal_and_rotation_keeps_every_cosine() -> None:
    vectors = np.random.default_rng(5).standard_normal((400, 24)).astype(np.float32)
    whole = prefixes.Basis.of_vectors(vectors, 24)
    assert np.allclose(whole.axes @ whole.axes.T, np.eye(24), atol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rotated = whole.prefixes(vectors * 1e6).astype(np.float32)
    assert np.allclose(rotated @ rotated.T, unit @ unit.T, atol=5e-3)
    assert np.allclose(prefixes.Basis.of_vectors(vectors, 8).axes, whole.axes[:8], atol=1e-4)


def test_a_prefix_is_never_all_zeros_which_the_index_would_leave_out() -> None:
    vectors = np.eye(4, dtype=np.float32)
    basis = prefixes.Basis.of_vectors(vectors[:2], 2)
    assert basis.prefixes(vectors[2:]).any(axis=1).all()


def test_no_row_is_lost_while_prefixes_are_missing(synced: sa.Engine) -> None:
    """The first stage then hands on all rows, so the result is exact, whatever the prefixes are."""
    switched(synced, compressed=PREFIX)
    live, searcher = generation_of(synced), Searcher(encoder())

    def found() -> list[int]:
        with Session(synced) as session:
            few = Options(ef_search=1)
            hits = searcher.search(session, Article.semantic, "harbour candle", mode="dense", limit=2, options=few)
            return [hit.entity.id for hit in hits]

    right = found()
    assert right[0] == 0
    execute(synced, "UPDATE semantic.basis SET filled_at = NULL")
    execute(synced, f"UPDATE semantic.chunks_{live.id} SET prefix = NULL WHERE id = 0")  # the best one
    assert found() == right
    execute(synced, f"UPDATE semantic.chunks_{live.id} SET prefix = NULL")
    execute(synced, "DELETE FROM semantic.basis")
    assert found() == right


def test_a_writer_that_began_before_there_was_a_basis_writes_prefixes_or_nothing(synced: sa.Engine) -> None:
    begin(synced, compressed=PREFIX)
    chosen = all_of(synced)["next"]
    with synced.connect() as connection:
        assert not prefixes.are_due(connection, chosen.id, chosen.tables)
        connection.rollback()
    sync(synced)
    with synced.connect() as connection:
        assert prefixes.are_due(connection, chosen.id, chosen.tables)
        mine = "FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock'"
        locked = connection.scalars(sa.text(f"SELECT CAST(CAST(relation AS regclass) AS text) {mine}"))
        assert f"{NAME}__next" in set(locked)
        connection.rollback()


def test_verify_finds_wrong_and_missing_prefixes_and_repair_corrects_them(synced: sa.Engine) -> None:
    switched(synced, compressed=PREFIX)
    live = generation_of(synced)
    assert verify.verify(synced, live).clean
    execute(synced, f"UPDATE {NAME} SET prefix = (SELECT prefix FROM {NAME} WHERE id = 0) WHERE id = 1")
    execute(synced, f"UPDATE {NAME} SET prefix = NULL WHERE id = 2")
    report = verify.verify(synced, live)
    assert (report.clean, report.prefixes, report.damaged) == (False, 2, 0)
    assert repair.repair(synced, live).prefixes == 2
    assert wrong_prefixes(synced, live) == 0
    assert verify.verify(synced, live).clean
    assert rows(synced, "SELECT * FROM semantic.job") == []


def test_the_basis_of_a_copy_comes_from_random_vectors_of_the_live_one(
    synced: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "SAMPLE", 4)
    begin(synced, compressed=PREFIX)
    with synced.connect() as connection:
        assert prefixes.is_learnable(connection, all_of(synced)["next"])
        connection.rollback()
    prefixes.learn(synced, all_of(synced)["next"])
    assert rows(synced, "SELECT vectors, filled_at FROM semantic.basis") == [(4, None)]
    sync(synced)
    assert wrong_prefixes(synced, all_of(synced)["next"]) == 0


def test_the_basis_is_computed_before_the_backfill_is_over(synced: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "SAMPLE", 4)
    begin(synced, compressed=PREFIX)
    chosen = all_of(synced)["next"]
    assert not chosen.backfilled
    builder = IndexBuilder(synced, Settings())
    builder.tend_basis(chosen)
    builder.close()
    assert rows(synced, "SELECT vectors, filled_at FROM semantic.basis") == [(4, None)]


def test_a_switch_is_refused_below_the_recall_objective_and_otherwise_searches_use_what_it_takes(
    library: sa.Engine, server: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_before_switch, "STEPS", (8, 200))
    name = str(library.url.database)
    library.dispose()
    with copy_of(server, name) as dsn:
        engine = database.connect(dsn)
        for index, objective in (("short_signs", 0.99), ("short_semantic", 0.9)):
            live = generation_named(engine, index)
            hnsw = dataclasses.replace(live.spec.hnsw, m=12)
            generations.begin(engine, live, dataclasses.replace(live.spec, recall_objective=objective, hnsw=hnsw))
        sync(engine)
        low = "INSERT INTO semantic.recall (generation_id, ef_search) SELECT id, 5 FROM semantic.generation"
        execute(engine, f"{low} ON CONFLICT (generation_id) DO UPDATE SET ef_search = 5")
        with pytest.raises(
            errors.GenerationError, match=r"its recall objective is 0\.99: begin it with a longer prefix"
        ):
            generations.switch(engine, "short_signs")
        generations.switch(engine, "short_signs", force=True)
        generations.switch(engine, "short_semantic")
        live = generation_named(engine, "short_semantic")
        [(ef_search,)] = rows(engine, f"SELECT ef_search FROM semantic.recall WHERE generation_id = {live.id}")
        assert ef_search == 200
        engine.dispose()


def test_near_copies_are_found_through_the_index(library: sa.Engine) -> None:
    with Session(library) as session:
        by_prefix = search.duplicates(session, Short.semantic, least=0.9, limit=20)
        by_signs = search.duplicates(session, Short.signs, least=0.9, limit=20)
    assert len(by_prefix) > 5
    assert [pair.score for pair in by_signs] == pytest.approx([pair.score for pair in by_prefix], abs=0.02)


def test_status_and_forecast_say_the_size_of_index_and_prefixes(library: sa.Engine) -> None:
    dsn = library.url.set(drivername="postgresql").render_as_string(hide_password=False)
    said = CliRunner().invoke(cli.app, ["index", "forecast", "short_semantic", "--dsn", dsn])
    assert "prefixes" in said.output
    [status] = [
        one
        for one in json.loads(CliRunner().invoke(cli.app, ["status", "--json", "--dsn", dsn]).output)["indexes"]
        if one["name"] == "short_semantic"
    ]
    assert status["built"]["prefix_bytes"] == status["chunks"] * (8 + 2 * 12)
    assert status["built"]["bytes"] == pytest.approx(status["built"]["forecast_bytes"], rel=0.05)


def test_the_command_line_begins_compressed_copies(synced: sa.Engine) -> None:
    dsn = synced.url.set(drivername="postgresql").render_as_string(hide_password=False)
    refused = CliRunner().invoke(cli.app, ["generation", "begin", NAME, "--storage", "short", "--yes", "--dsn", dsn])
    assert refused.exit_code == 2
    assert "prefix=N" in refused.output
    for given, compressed in (("prefix=12", PREFIX), ("bits", BITS)):
        began = CliRunner().invoke(cli.app, ["generation", "begin", NAME, "--storage", given, "--yes", "--dsn", dsn])
        assert began.exit_code == 0, began.output
        assert all_of(synced)["next"].spec.compressed == compressed
        generations.drop(synced, NAME, "next", grace_seconds=0)


@BOTH
def test_a_restored_database_has_its_basis_and_prefixes_and_its_index(
    synced: sa.Engine, server: sa.URL, tmp_path: Path, compressed: Compressed
) -> None:
    switched(synced, compressed=compressed)
    with copy_of(server, "template0") as dsn:
        elsewhere = database.connect(dsn)
        dump_and_restore(synced, elsewhere, tmp_path / "dump")
        execute(elsewhere, "INSERT INTO article (id, title, lang) VALUES (9, 'ribbon saddle', 'en')")
        sync(elsewhere)
        live = generation_of(elsewhere)
        assert verify.verify(elsewhere, live).clean
        assert compressed.bits or wrong_prefixes(elsewhere, live) == 0
        defined = "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
        [(index, valid)] = rows(elsewhere, defined, name=f"{NAME}_vector_idx")
        assert ("bit_hamming_ops" if compressed.bits else "(prefix halfvec_cosine_ops)") in index
        assert valid
        elsewhere.dispose()


@INDEXES
def test_rows_that_a_policy_hides_do_not_make_a_search_short(library: sa.Engine, server: sa.URL, index: Any) -> None:
    """Whether a worker has copied the policy to the chunks by then or not: here, it has not."""
    name = str(library.url.database)
    library.dispose()
    with copy_of(server, name) as dsn:
        engine = database.connect(dsn)
        role = f"reader_{name[-8:]}"
        execute(engine, f"CREATE ROLE {role}")
        execute(engine, f"GRANT SELECT ON short TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA semantic TO {role}")
        execute(engine, f"GRANT SELECT ON short_semantic, short_semantic_receipt, short_signs TO {role}")
        execute(engine, "ALTER TABLE short ENABLE ROW LEVEL SECURITY")
        execute(engine, f"CREATE POLICY mine ON short FOR SELECT TO {role} USING (kind = 7)")
        with Session(engine) as session:
            session.execute(sa.text(f"SET LOCAL ROLE {role}"))
            hits = Searcher(HashedEncoder(32)).search(session, index, "hara canb", limit=10, mode="dense")
            assert {hit.entity.kind for hit in hits} == {7}
            assert len(hits) == 10
            assert session.scalar(sa.text("SELECT count(*) FROM semantic.readable_basis")) == 0, "it is of all rows"
        execute(engine, f"DROP OWNED BY {role}")
        execute(engine, f"DROP ROLE {role}")
        engine.dispose()
