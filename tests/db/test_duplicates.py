"""Pairs and groups of rows that are alike: what a comparison of all rows with numpy finds."""

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_semantic import errors, generations, search
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.search import similar_chunks
from pg_semantic.search.similar_chunks import SimilarChunks
from pg_semantic.worker import privileges
from tests.db.library import Article, execute, generation_of, sync
from tests.db.similar_rows import (
    DIMENSIONS,
    RESULT,
    VARIED,
    VECTOR_INDEX,
    Chunk,
    Note,
    Other,
    all_pairs,
    near,
    store,
    varied_database,
)

_SETTINGS = ("coalesce", "greatest", "least", "generation_id")  # names of binds for the settings of a scan
ALL = 1_000_000


def found(duplicates: Sequence[search.Duplicate[Article]]) -> RESULT:
    """The scores of pairs by their keys, each of which occurs once."""
    pairs = {(one.first.id, one.second.id): one.score for one in duplicates}
    assert len(pairs) == len(duplicates)
    assert all(first < second for first, second in pairs)
    return pairs


@pytest.fixture
def empty(articles: sa.Engine) -> sa.Engine:
    """The table article and its index, whose vector index is built."""
    sync(articles)
    return articles


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with varied_database(server, template) as engine:
        yield engine


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    with Session(filled) as opened:
        yield opened


@pytest.mark.parametrize("least", [0.8, 0.9, 0.95, 0.99, 1])
def test_all_pairs_are_found_that_a_comparison_of_all_chunks_finds(session: Session, least: float) -> None:
    expected = all_pairs(VARIED, least)
    assert len(expected) > 200 * 199 / 2
    result = search.duplicates(session, Article.semantic, least=least, limit=ALL)
    assert found(result) == pytest.approx(expected, abs=1e-5)
    order = [(-one.score, one.first.id, one.second.id) for one in result]
    assert order == sorted(order)


@pytest.mark.parametrize("limit", [1, 50, 20_010, 20_500])
def test_the_best_pairs_are_returned_up_to_the_limit(session: Session, limit: int) -> None:
    every = all_pairs(VARIED, 0.9)
    result = search.duplicates(session, Article.semantic, least=0.9, limit=limit)
    scores = sorted(every.values(), reverse=True)[:limit]
    assert [one.score for one in result] == pytest.approx(scores, abs=1e-5)
    pairs = found(result)
    assert pairs == pytest.approx({pair: every[pair] for pair in pairs}, abs=1e-5)


def test_chunks_are_found_through_the_vector_index_and_the_plan_says_so(session: Session) -> None:
    chunks = SimilarChunks.live(session, Article.semantic, [])
    asked = chunks._page(None)[:500]
    plan = search.explain(session, chunks._nearest_chunks(asked, 10, 0.9))
    assert VECTOR_INDEX in plan.indexes, str(plan)


def test_a_page_may_end_anywhere(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_chunks, "PAGE_CHUNKS", 7)
    monkeypatch.setattr(similar_chunks, "_COPIED_TEXTS", 1)
    counted: list[int] = []
    result = search.duplicates(session, Article.semantic, least=0.9, limit=ALL, on_rows=counted.append)
    assert found(result) == pytest.approx(all_pairs(VARIED, 0.9), abs=1e-5)
    assert len(counted) > 100
    assert sum(counted) == len({chunk.row for chunk in VARIED})


def test_more_near_texts_than_are_asked_for_at_once_are_all_found(empty: sa.Engine) -> None:
    random = np.random.default_rng(3)
    center = random.standard_normal(DIMENSIONS).astype(np.float32)
    chunks = [Chunk(row, f"text {row}", near(center, 0.001, random)) for row in range(1, 151)]
    chunks += [
        Chunk(row, f"text {row}", random.standard_normal(DIMENSIONS).astype(np.float32)) for row in range(151, 900)
    ]
    store(empty, chunks)
    with Session(empty) as session:
        result = found(search.duplicates(session, Article.semantic, least=0.98, limit=ALL))
        assert result == pytest.approx(all_pairs(chunks, 0.98), abs=1e-5)
        assert len(result) == 150 * 149 / 2


def test_equal_vectors_of_different_texts_score_1_too(empty: sa.Engine) -> None:
    vector = np.arange(1, DIMENSIONS + 1, dtype=np.float32)
    store(empty, [Chunk(1, "one", vector), Chunk(2, "two", vector), Chunk(3, "three", -vector)])
    with Session(empty) as session:
        assert found(search.duplicates(session, Article.semantic, least=1)) == {(1, 2): 1}


def test_rows_that_share_a_chunk_are_one_pair_and_a_chunk_within_one_row_is_none(empty: sa.Engine) -> None:
    first, second = np.eye(DIMENSIONS, dtype=np.float32)[:2]
    store(empty, [Chunk(1, "a", first), Chunk(1, "a", first, 1), Chunk(1, "b", second, 2)])
    with Session(empty) as session:
        assert search.duplicates(session, Article.semantic, least=0.5) == []
        assert search.groups(session, Article.semantic, least=0.5) == []
        store(empty, [Chunk(2, "b", second), Chunk(2, "a", first, 1)])
        assert found(search.duplicates(session, Article.semantic, least=0.5)) == {(1, 2): 1}


def test_nothing_is_found_where_nothing_is_alike(empty: sa.Engine) -> None:
    with Session(empty) as session:
        assert search.duplicates(session, Article.semantic) == []
        assert search.groups(session, Article.semantic) == []
        store(empty, [Chunk(row, f"{row}", np.eye(DIMENSIONS, dtype=np.float32)[row]) for row in (1, 2, 3)])
        assert search.duplicates(session, Article.semantic, least=0.01) == []
        assert search.groups(session, Article.semantic, least=0.01) == []


def test_both_rows_of_a_pair_match_the_filters(empty: sa.Engine) -> None:
    random = np.random.default_rng(5)
    center = random.standard_normal(DIMENSIONS).astype(np.float32)
    chunks = [
        Chunk(row, "same" if row % 7 == 0 else f"text {row}", center if row % 7 == 0 else near(center, 0.002, random))
        for row in range(1, 201)
    ]
    store(empty, chunks)
    execute(empty, "UPDATE article SET lang = CASE WHEN id % 3 = 0 THEN 'de' ELSE 'en' END")
    with Session(empty) as session:
        for where in ([Article.lang == "de"], [Article.lang == "en", Article.id > 90], [Article.lang == "fr"]):
            rows = set(session.scalars(sa.select(Article.id).where(*where)))
            own = [chunk for chunk in chunks if chunk.row in rows]
            expected = all_pairs(own, 0.9) if own else {}
            result = search.duplicates(session, Article.semantic, least=0.9, limit=ALL, where=where)
            assert found(result) == pytest.approx(expected, abs=1e-5)
            groups = search.groups(session, Article.semantic, where=where)
            assert {row.id for group in groups for row in group.members} == {row for pair in expected for row in pair}
        alias = orm.aliased(Article)
        of_alias = search.duplicates(
            session, Article.semantic.of(alias), least=0.9, limit=ALL, where=[alias.lang == "de"]
        )
        german = search.duplicates(session, Article.semantic, least=0.9, limit=ALL, where=[Article.lang == "de"])
        assert found(of_alias) == found(german) != {}


def test_rows_have_keys_of_several_columns(engine: sa.Engine) -> None:
    Other.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(
            Note(place=place, number=n, body=f"note {n % 3}") for place in ('a "b"', "c, d") for n in (9, 10)
        )
        session.add(Note(place="e", number=9, body="a violin"))
    sync(engine)
    with Session(engine) as session:
        result = search.duplicates(session, Note.semantic)
        keys = [(one.first.place, one.first.number, one.second.place, one.second.number) for one in result]
        assert keys == [('a "b"', 9, "c, d", 9), ('a "b"', 10, "c, d", 10)]
        one, other = search.groups(session, Note.semantic)
        assert [(row.place, row.number) for row in one.members] == [('a "b"', 9), ("c, d", 9)]
        assert one.medoid is one.members[0]
        assert [(row.place, row.number) for row in other.members] == [('a "b"', 10), ("c, d", 10)]


def test_a_role_sees_the_pairs_of_the_rows_that_it_sees(empty: sa.Engine) -> None:
    random = np.random.default_rng(6)
    center = random.standard_normal(DIMENSIONS).astype(np.float32)
    copies = [Chunk(row, "same", center) for row in range(1, 9)]
    chunks = [*copies, *(Chunk(row, f"{row}", near(center, 0.002, random)) for row in range(9, 41))]
    store(empty, chunks)
    execute(empty, "UPDATE article SET lang = 'de' WHERE id % 2 = 0")
    role = f"reader_{str(empty.url.database)[-8:]}"
    execute(empty, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    execute(empty, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(empty, "CREATE POLICY own ON article USING (lang = current_setting('app.lang'))")
    privileges.follow(empty)
    with Session(empty) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        session.execute(sa.text("SET LOCAL app.lang = 'de'"))
        result = found(search.duplicates(session, Article.semantic, least=0.9, limit=ALL))
        [group] = search.groups(session, Article.semantic, least=0.9)
    own = [chunk for chunk in chunks if chunk.row % 2 == 0]
    assert result == pytest.approx(all_pairs(own, 0.9), abs=1e-5)
    assert len(result) == 20 * 19 / 2
    assert [row.id for row in group.members] == [chunk.row for chunk in own]
    execute(empty, f"DROP OWNED BY {role}; DROP ROLE {role}")


def components(pairs: RESULT) -> list[set[int]]:
    sets: list[set[int]] = []
    for pair in pairs:
        touched = [one for one in sets if one & set(pair)]
        sets = [one for one in sets if one not in touched] + [set(pair).union(*touched)]
    return sets


def mean_similarities(chunks: Sequence[Chunk], members: Sequence[int]) -> NDArray[np.float64]:
    rows = []
    for member in members:
        own = np.stack([chunk.vector for chunk in chunks if chunk.row == member]).astype(np.float16).astype(np.float64)
        mean = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    vectors = np.stack(rows)
    means: NDArray[np.float64] = (vectors @ vectors.T).mean(axis=1)
    return means


@pytest.fixture
def asked_for(empty: sa.Engine) -> Iterator[list[int]]:
    """How many of the nearest chunks each statement asked for."""
    seen: list[int] = []

    def listen(_: Any, __: Any, statement: str, given: dict[str, Any], *___: Any) -> None:
        if "asked AS MATERIALIZED" in statement:
            numbers = {name: value for name, value in given.items() if isinstance(value, int)}
            seen.append(max(value for name, value in numbers.items() if not name.startswith(_SETTINGS)))

    sa.event.listen(empty, "before_cursor_execute", listen)
    yield seen
    sa.event.remove(empty, "before_cursor_execute", listen)


def family(center: NDArray[np.float32], rows: Sequence[int], random: np.random.Generator) -> list[Chunk]:
    return [Chunk(row, f"text {row}", near(center, 0.001, random)) for row in rows]


def test_a_group_of_many_rows_takes_one_search_for_each(empty: sa.Engine, asked_for: list[int]) -> None:
    random = np.random.default_rng(3)
    center = random.standard_normal(DIMENSIONS).astype(np.float32)
    store(empty, family(center, range(1, 301), random))
    with Session(empty) as session:
        [group] = search.groups(session, Article.semantic, least=0.98)
    assert len(group.members) == 300
    assert asked_for == [10]


@pytest.mark.parametrize(("least", "groups"), [(0.9, [100, 60, 40]), (0.6, [160, 40])])
def test_groups_of_many_rows_are_connected_through_rows_beyond_the_nearest(
    empty: sa.Engine, least: float, groups: list[int]
) -> None:
    random = np.random.default_rng(3)
    first, second, third = np.eye(DIMENSIONS, dtype=np.float32)[:3]
    chunks = family(first, range(1, 101), random) + family(first + second, range(101, 161), random)
    chunks += family(third, range(161, 201), random)
    store(empty, chunks)
    with Session(empty) as session:
        found = search.groups(session, Article.semantic, least=least)
    assert [len(group.members) for group in found] == groups
    assert sorted(components(all_pairs(chunks, least)), key=min) == [
        {row.id for row in group.members} for group in sorted(found, key=lambda group: group.members[0].id)
    ]


@pytest.mark.parametrize("least", [0.85, 0.95])
def test_groups_are_the_connected_components_of_the_pairs(session: Session, least: float) -> None:
    groups = search.groups(session, Article.semantic, least=least)
    expected = components(all_pairs(VARIED, least))
    assert len(expected) > 20
    members = [[row.id for row in group.members] for group in groups]
    assert sorted(map(set, members), key=min) == sorted(expected, key=min)
    assert members == sorted((sorted(one) for one in members), key=lambda one: (-len(one), one[0]))
    large = search.groups(session, Article.semantic, least=least, smallest=5)
    assert [[row.id for row in group.members] for group in large] == [one for one in members if len(one) >= 5]


def test_the_row_in_the_middle_is_the_most_similar_to_all_members(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = search.groups(session, Article.semantic, least=0.9)
    for group in groups:
        members = [row.id for row in group.members]
        means = mean_similarities(VARIED, members)
        assert means[members.index(group.medoid.id)] == pytest.approx(max(means), abs=2e-5)
        if len(members) == 2:
            assert group.medoid is group.members[0]
    monkeypatch.setattr("pg_semantic.search.row_groups._MEMBERS", 3)
    again = search.groups(session, Article.semantic, least=0.9)
    assert [group.medoid.id for group in again] == [group.medoid.id for group in groups]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_session_finds_the_same(filled: sa.Engine, session: Session, driver: str) -> None:
    async def pairs_and_groups() -> tuple[RESULT, list[int]]:
        engine = create_async_engine(filled.url.set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as opened:
            pairs = await opened.run_sync(search.duplicates, Article.semantic, least=0.9, limit=ALL)
            groups = await opened.run_sync(search.groups, Article.semantic)
            result = found(pairs), [group.medoid.id for group in groups]
        await engine.dispose()
        return result

    pairs, medoids = asyncio.run(pairs_and_groups())
    assert pairs == pytest.approx(all_pairs(VARIED, 0.9), abs=1e-5)
    assert medoids == [group.medoid.id for group in search.groups(session, Article.semantic)]


def test_the_live_generation_is_compared_whatever_its_encoder(empty: sa.Engine) -> None:
    execute(
        empty,
        "INSERT INTO article VALUES (1, 'violin', NULL, 'en'), (2, 'violin', NULL, 'en'), (3, 'harbour', NULL, 'en')",
    )
    sync(empty)
    live = generation_of(empty)
    generations.begin(empty, live, dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:48", 48)))
    sync(empty)
    generations.switch(empty, "article_semantic")
    with Session(empty) as session:
        assert found(search.duplicates(session, Article.semantic)) == {(1, 2): 1}


def test_an_index_of_no_class_is_compared_alike(filled: sa.Engine, session: Session) -> None:
    bound: BoundIndex[Any] = declare.bind(generation_of(filled).spec)
    expected = found(search.duplicates(session, Article.semantic, least=0.9, limit=300))
    assert found(search.duplicates(session, bound, least=0.9, limit=300)) == expected


@pytest.mark.parametrize("least", [0, -0.5, 1.01, float("nan"), "0.9", True])
def test_a_similarity_out_of_range_is_refused(session: Session, least: Any) -> None:
    with pytest.raises(errors.QueryError, match=r"least=.*above 0 and at most 1"):
        search.duplicates(session, Article.semantic, least=least)
    with pytest.raises(errors.QueryError, match=r"least=.*above 0 and at most 1"):
        search.groups(session, Article.semantic, least=least)


def test_other_arguments_out_of_range_are_refused(session: Session) -> None:
    for limit in (0, -1, 1.5, 1_000_001, True):
        with pytest.raises(errors.QueryError, match=f"limit={limit}: .* whole number from 1 to 1000000"):
            search.duplicates(session, Article.semantic, limit=limit)  # type: ignore[arg-type]
    for smallest in (1, 0, 2.5, True):
        with pytest.raises(errors.QueryError, match=f"smallest={smallest}: .* 2 or more"):
            search.groups(session, Article.semantic, smallest=smallest)  # type: ignore[arg-type]
    with pytest.raises(errors.QueryError, match="pass a list of conditions"):
        search.duplicates(session, Article.semantic, where=Article.lang == "en")  # type: ignore[arg-type]
    with pytest.raises(errors.QueryError, match="condition on note"):
        search.groups(session, Article.semantic, where=[Note.number == 1])
