"""Searches of a partitioned index: exact across the partitions, and through the vector index of each."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, search
from pg_semantic.search.similar_chunks import SimilarChunks
from tests.conftest import copy_of
from tests.db import leaves
from tests.db.leaves import NAME, PARTITIONS, BaseOfTenants, Deed, Leaf
from tests.db.library import encoder, execute, rows

VECTOR = [float(number) for number in encoder().encode_queries(["c4ca4238a0b923820dcc509a6f75849b"])[0]]
PARTS = {f"{NAME}_p{number}_vector_idx" for number in range(PARTITIONS)}

HOME = "SELECT CAST(CAST(tableoid AS regclass) AS text) FROM deed_semantic WHERE tenant = :tenant"

Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"


@pytest.fixture(scope="module")
def library(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Four thousand synced rows; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        BaseOfTenants.metadata.create_all(engine)
        execute(
            engine,
            "INSERT INTO deed SELECT tenant, i, md5(tenant || '-' || i) FROM generate_series(1, 6) AS tenant, "
            "generate_series(1, 1000) AS i",
        )
        leaves.fill(engine, count=4000)
        execute(engine, "ANALYZE")
        yield engine
        engine.dispose()


@pytest.fixture
def session(library: sa.Engine) -> Iterator[Session]:
    with Session(library) as opened:
        yield opened


def knn(**page: int) -> "sa.Select[Leaf, float]":
    return search.knn(Leaf.semantic, VECTOR, **page)


def of_alias() -> Statement:
    other = orm.aliased(Leaf)
    return search.knn(Leaf.semantic.of(other), VECTOR).where(other.lang == "half")


WALKING: dict[str, Callable[[], Statement]] = {
    "knn": knn,
    "a page further": lambda: knn(limit=10, offset=20),
    "a filter": lambda: knn().where(Leaf.lang == "half"),
    "an alias": of_alias,
    "a CTE": lambda: sa.select(sa.func.count()).select_from(knn().with_only_columns(Leaf.id).cte()),
    "hybrid": lambda: search.hybrid(Leaf.semantic, VECTOR, "c4ca4238a0b923820dcc509a6f75849b", depth=10),
    "more like this": lambda: search.knn(Leaf.semantic, Leaf.semantic.similar_to(positive=[7], negative=[8])),
}


@pytest.mark.parametrize("which", WALKING)
def test_a_search_merges_the_scans_of_the_index_of_each_partition(session: Session, which: str) -> None:
    plan = search.explain(session, WALKING[which]())
    assert set(plan.indexes) >= PARTS, str(plan)
    assert "Merge Append" in str(plan)
    assert (plan.uses_vector_index, [reason for reason in plan.reasons if "vector" in reason]) == (True, [])


def test_the_distances_of_a_few_chunks_alone_are_computed_sooner_than_that(session: Session) -> None:
    chunk = Leaf.semantic.Chunk
    statement = sa.select(chunk.content).order_by(chunk.vector.op("<=>")(VECTOR)).limit(5)
    assert not search.explain(session, statement).uses_vector_index
    session.execute(sa.text("SET LOCAL enable_seqscan = off"))
    assert set(search.explain(session, statement).indexes) >= PARTS


@pytest.mark.parametrize("mode", ["knn", "exact"])
def test_the_chunks_of_a_row_are_looked_up_in_one_partition(session: Session, mode: str) -> None:
    statement = knn() if mode == "knn" else search.exact(Leaf.semantic, VECTOR)
    session.execute(sa.text("SET LOCAL enable_seqscan = off"))
    plan = search.explain(session, statement, analyze=True)
    lookups = [line for line in str(plan).splitlines() if f"using {NAME}_p" in line and "_pkey" in line]
    loops = [float(line.rpartition("loops=")[2].rstrip(")")) for line in lookups]
    scanned = 4000 if mode == "exact" else 400
    assert len(loops) == PARTITIONS
    assert 0 < sum(loops) <= scanned, str(plan)  # not each row in each partition


def test_a_rare_filter_comes_first_and_the_reason_counts_all_partitions(session: Session) -> None:
    plan = search.explain(session, knn().where(Leaf.id == 1))
    assert not plan.uses_vector_index
    [reason] = plan.reasons
    assert "of 4000 chunks" in reason


@pytest.mark.parametrize("limit", [1, 10, 50])
@pytest.mark.parametrize("filtered", [False, True])
def test_the_nearest_rows_of_all_partitions_are_found_in_order(session: Session, limit: int, *, filtered: bool) -> None:
    def scores(statement: "sa.Select[Leaf, float]") -> list[float]:
        if filtered:
            statement = statement.where(Leaf.lang == "half")
        return [score for _, score in session.execute(statement)]

    found, truth = scores(knn(limit=limit)), scores(search.exact(Leaf.semantic, VECTOR, limit=limit))
    assert len(found) == limit
    assert found == pytest.approx(truth, abs=0.01)


def test_without_partition_pruning_searches_find_the_same(session: Session) -> None:
    before = list(session.scalars(knn()))
    session.execute(sa.text("SET LOCAL enable_partition_pruning = off"))
    assert list(session.scalars(knn())) == before


def test_the_search_function_of_plain_sql_walks_the_index_of_each_partition(library: sa.Engine) -> None:
    text = "c4ca4238a0b923820dcc509a6f75849b"
    execute(
        library,
        "INSERT INTO semantic.query_vector (encoder_id, text_hash, vector) "
        "SELECT id, semantic.text_hash_v1(:text), CAST(:vector AS real[]) FROM semantic.encoder ON CONFLICT DO NOTHING",
        text=text,
        vector=VECTOR,
    )
    with Session(library) as session:
        hits = Searcher(encoder()).search(session, Leaf.semantic, text, limit=10)
        expected = [(hit.entity.id, pytest.approx(hit.score)) for hit in hits]
    assert rows(library, f"SELECT id, score FROM {NAME}_search(:text, 10)", text=text) == expected
    asking = (
        "SELECT semantic.search_sql_v1(id, 'dense', 10, false) FROM semantic.generation WHERE chunks = to_regclass("
    )
    [(statement,)] = rows(library, f"{asking}'{NAME}')")
    with library.begin() as connection:
        run = connection.exec_driver_sql
        run("SET LOCAL hnsw.iterative_scan = 'strict_order'")
        run(f"PREPARE asked (vector, text, integer, double precision, integer[]) AS {statement.replace('%', '%%')}")
        plan = "\n".join(line for (line,) in run(f"EXPLAIN EXECUTE asked ('{VECTOR}', 'x', 10, NULL, NULL)"))
        run("DEALLOCATE asked")
    assert all(part in plan for part in PARTS), plan


def test_similar_chunks_are_found_through_the_index_of_each_partition(session: Session) -> None:
    chunks = SimilarChunks.live(session, Leaf.semantic, [])
    plan = search.explain(session, chunks._nearest_chunks(chunks._page(None)[:500], 10, 0.9))
    assert set(plan.indexes) >= PARTS, str(plan)


@pytest.mark.parametrize("tenant", [1, 5])
def test_a_search_that_filters_on_the_column_that_decides_scans_one_partition(session: Session, tenant: int) -> None:
    [home] = {name for (name,) in session.execute(sa.text(HOME), {"tenant": tenant})}
    statement = search.knn(Deed.semantic, VECTOR).where(Deed.tenant == tenant)
    plan = search.explain(session, statement, analyze=True)
    assert {name for name in plan.indexes if name.endswith("_vector_idx")} == {f"{home}_vector_idx"}, str(plan)
    executed = [line for line in str(plan).splitlines() if "using deed_semantic_p" in line and "loops=0)" not in line]
    assert executed
    assert all(f"using {home}_" in line for line in executed), str(plan)
    found = [score for _, score in session.execute(statement)]
    exact = search.exact(Deed.semantic, VECTOR).where(Deed.tenant == tenant)
    assert found == pytest.approx([score for _, score in session.execute(exact)], abs=0.01)


def test_each_partition_holds_the_chunks_of_the_keys_that_hash_to_it(library: sa.Engine) -> None:
    counts = rows(library, f"SELECT tableoid::regclass::text, count(*) FROM {NAME} GROUP BY 1")
    assert len(counts) == PARTITIONS
    assert all(800 < count < 1200 for _, count in counts)
