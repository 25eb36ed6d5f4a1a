"""Impressions in the application's own table: stored, clicked, read as judgements, compared and forgotten."""

import asyncio
import dataclasses
import datetime as dt
import random
import types
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import AsyncSearcher, Searcher, SemanticIndex, errors, evaluation, search
from pg_semantic.evaluation import InterleavingOutcome, Judgements
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Drafted, Hit, Options
from tests import documents
from tests.db.library import ENCODER, Article, encoder, execute, rows, sync

KEYS = Options(keys=True)
SECRET = bytes(range(32))
EXPERIMENT = "rrf or convex"


class Logged(DeclarativeBase):
    metadata = sa.MetaData(naming_convention={"ck": "ck_%(table_name)s_%(constraint_name)s", "ix": "ix_%(table_name)s"})


class Impression(Logged):
    __table__ = search.impressions_table(Logged.metadata)


IMPRESSION = Impression.__table__
assert isinstance(IMPRESSION, sa.Table)
TABLE: sa.Table = IMPRESSION


class Translated(DeclarativeBase): ...


class Label(Translated):
    __tablename__ = "label"

    lang: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    semantic = SemanticIndex("text", encoder=ENCODER)


@pytest.fixture
def session(articles: sa.Engine) -> Iterator[Session]:
    """A session on a database with thirty synced articles and a table of impressions."""
    Logged.metadata.create_all(articles)
    execute(
        articles,
        "INSERT INTO article (id, title, lang) SELECT i, 'harbour ' || i, 'en' FROM generate_series(1, 30) AS i",
    )
    sync(articles)
    with Session(articles) as made:
        yield made


def hits(*keys: int) -> list[Hit[Any]]:
    return [Hit(None, 0.0, {}, (), key=str(key)) for key in keys]


def show(session: Session, shown: Sequence[Hit[Any] | Drafted[Any]], **given: Any) -> uuid.UUID:
    """Stores an impression and returns its id."""
    impression: uuid.UUID = given.pop("impression", None) or uuid.uuid4()
    given.setdefault("query", "harbour")
    made = search.impressions(Article.semantic, shown, impression=impression, **given)
    session.execute(sa.insert(TABLE), made)
    return impression


def click(session: Session, impression: uuid.UUID, key: object) -> int:
    result = session.execute(search.record_click(TABLE, impression=impression, key=str(key)))
    assert isinstance(result, sa.CursorResult)
    return result.rowcount


def stored(session: Session, *columns: str) -> list[tuple[Any, ...]]:
    chosen = sa.select(*(TABLE.c[name] for name in columns)).order_by(TABLE.c.impression, TABLE.c.rank)
    return [tuple(row) for row in session.execute(chosen)]


def test_pages_of_a_search_are_one_impression_with_ranks_that_continue(session: Session) -> None:
    searcher, impression = Searcher(encoder()), uuid.uuid4()
    how: dict[str, Any] = {"limit": 5, "options": KEYS}
    for offset in (0, 5):
        found = searcher.search(session, Article.semantic, "harbour", offset=offset, **how)
        show(session, found, impression=impression, offset=offset, variant="now", visitor="v1")
    whole = searcher.search(session, Article.semantic, "harbour", limit=10, options=KEYS)
    assert stored(session, "rank", "key") == [(rank, hit.key) for rank, hit in enumerate(whole, start=1)]
    [one] = {row[:6] for row in stored(session, "impression", "index_name", "query", "variant", "visitor", "team")}
    assert one == (impression, "article_semantic", "harbour", "now", "v1", None)
    assert {row[0] for row in stored(session, "query_hash")} == {None}


def test_nothing_but_keys_of_rows_is_stored(session: Session) -> None:
    found = Searcher(encoder()).search(session, Article.semantic, "meadow", limit=5, options=KEYS)
    show(session, found, query="meadow")
    assert len(found) == 5
    assert "harbour" in found[0].passage
    assert not [
        row
        for (row,) in rows_of(session, "SELECT row_to_json(shown)::text FROM impression AS shown")
        if "harbour" in row
    ]


def rows_of(session: Session, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(sa.text(statement))]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_session_stores_clicks_and_counts_the_same_way(session: Session, driver: str) -> None:
    url = engine_of(session).url

    async def work() -> None:
        engine = create_async_engine(url.set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as own:
            impression = uuid.uuid4()
            found = [
                await AsyncSearcher(encoder()).search(own, Article.semantic, text, options=KEYS)
                for text in ("harbour", "harbour 7")
            ]
            page = search.interleave(*found, seed=impression)
            given: dict[str, Any] = {"query": "harbour", "impression": impression, "variant": EXPERIMENT}
            await own.execute(sa.insert(TABLE), search.impressions(Article.semantic, page, hash_key=SECRET, **given))
            clicked = next(one for one in page if one.team == "second")
            await own.execute(search.record_click(TABLE, impression=impression, key=str(clicked.hit.key)))
            outcome = await own.run_sync(evaluation.interleaving_outcome, Article.semantic, TABLE, variant=EXPERIMENT)
            assert (outcome.first, outcome.second) == (0, 1)
            read = search.clicks(Article.semantic, TABLE, texts=["harbour"], hash_key=SECRET, most_per_visitor=5)
            assert len((await own.execute(read)).all()) == len(page)
            await own.execute(search.forget_impressions(TABLE, before=dt.datetime.now(dt.UTC)))
        await engine.dispose()

    asyncio.run(work())


def test_a_click_counts_once_and_only_on_what_was_shown(session: Session) -> None:
    impression = show(session, hits(3, 1, 2))
    show(session, hits(3, 1, 2))
    assert click(session, impression, 1) == 1
    before = stored(session, "clicked_at")
    session.commit()
    assert click(session, impression, 1) == 0
    assert click(session, impression, 9) == 0
    assert click(session, uuid.uuid4(), 1) == 0
    assert stored(session, "clicked_at") == before
    read = session.execute(search.clicks(Article.semantic, TABLE)).all()
    assert sorted(map(tuple, read)) == sorted(
        [("harbour", "3", 1, False), ("harbour", "1", 2, True), ("harbour", "2", 3, False)]
        + [("harbour", str(key), rank, False) for rank, key in enumerate((3, 1, 2), start=1)]
    )


def test_impressions_of_another_index_are_left_out(session: Session) -> None:
    shown = search.interleave(hits(1, 2), hits(2, 1), seed="1")
    show(session, shown, variant=EXPERIMENT)
    other = search.impressions(Label.semantic, shown, query="harbour", impression=uuid.uuid4(), variant=EXPERIMENT)
    session.execute(sa.insert(TABLE), other)
    assert len(session.execute(search.clicks(Article.semantic, TABLE)).all()) == 2
    assert outcome(session).unclicked == 1


def test_the_same_page_cannot_be_stored_twice(session: Session) -> None:
    impression = show(session, hits(1, 2))
    with pytest.raises(sa.exc.IntegrityError):
        show(session, hits(1, 2), impression=impression)


def test_judgements_are_estimated_from_impressions(session: Session) -> None:
    """Rows 1 and 2 are shown equally often at both ranks; row 2 is clicked."""
    for number in range(60):
        impression = show(session, hits(1, 2) if number % 2 else hits(2, 1))
        click(session, impression, 2 if number % 10 else 1)
    show(session, hits(3), query="a query that is asked once")
    judged = Judgements.clicks(session, Article.semantic, search.clicks(Article.semantic, TABLE))
    assert judged == Judgements({"harbour": {"1": 0, "2": 1}}, implicit=True)
    recent = [TABLE.c.shown_at > dt.datetime.now(dt.UTC) + dt.timedelta(days=1)]
    with pytest.raises(errors.QueryError, match="returns no rows"):
        Judgements.clicks(session, Article.semantic, search.clicks(Article.semantic, TABLE, where=recent))


def test_keys_of_several_columns_are_read_as_they_were_stored(engine: sa.Engine) -> None:
    Translated.metadata.create_all(engine)
    Logged.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Label(lang='d"e', number=number, text=f"harbour {number}") for number in range(1, 4))
        session.commit()
        sync(engine)
        found = Searcher(encoder()).search(session, Label.semantic, "harbour", options=KEYS)
        for _ in range(60):
            impression = uuid.uuid4()
            made = search.impressions(Label.semantic, found, query="harbour", impression=impression)
            session.execute(sa.insert(TABLE), made)
            click(session, impression, found[1].key)
        show(session, hits(1))  # of another index
        read = search.clicks(Label.semantic, TABLE)
        assert [column.name for column in read.selected_columns] == ["query", "lang", "number", "rank", "clicked"]
        judged = Judgements.clicks(session, Label.semantic, read)
        assert judged.grades == {"harbour": {str(hit.key): int(hit is found[1]) for hit in found if hit is found[1]}}
        assert judged.resolved(session, Label.semantic) == (judged, 0)


def test_of_a_hashed_query_no_text_is_stored_and_known_texts_are_matched(session: Session) -> None:
    for number in range(60):
        impression = show(session, hits(1, 2) if number % 2 else hits(2, 1), query="my illness", hash_key=SECRET)
        click(session, impression, 2 if number % 10 else 1)
    show(session, hits(1, 2), query="something else", hash_key=SECRET)
    assert not [
        row
        for (row,) in rows_of(session, "SELECT row_to_json(shown)::text FROM impression AS shown")
        if "illness" in row
    ]
    assert session.execute(search.clicks(Article.semantic, TABLE)).all() == []
    known = search.clicks(Article.semantic, TABLE, texts=["my illness", "harbour", "my illness"], hash_key=SECRET)
    assert {row[0] for row in session.execute(known)} == {"my illness"}
    assert Judgements.clicks(session, Article.semantic, known).grades == {"my illness": {"1": 0, "2": 1}}
    other = search.clicks(Article.semantic, TABLE, texts=["my illness"], hash_key=SECRET[::-1])
    assert session.execute(other).all() == []


@pytest.mark.parametrize("first", ["public", "library"])
def test_indexes_of_one_name_in_two_schemas_are_kept_apart(session: Session, first: str) -> None:
    """One whose class names no schema is the first on the search path."""
    execute(engine_of(session), "CREATE SCHEMA library; CREATE TABLE library.article_semantic ()")
    spec = Article.semantic.spec
    named = {schema: declare.bind(dataclasses.replace(spec, schema=schema)) for schema in ("public", "library")}
    indexes = {"declared": Article.semantic, **named}
    session.execute(sa.text(f"SET LOCAL search_path = {first}, public"))
    for number, (name, index) in enumerate(indexes.items()):
        made = search.impressions(index, hits(number), query=name, impression=uuid.uuid4(), variant=EXPERIMENT)
        session.execute(sa.insert(TABLE), made)
    seen = {name: set(found_queries(session, index)) for name, index in indexes.items()}
    other = "library" if first == "public" else "public"
    assert seen == {"declared": {"declared", first}, first: {"declared", first}, other: {other}}
    counts = {
        name: evaluation.interleaving_outcome(session, index, TABLE, variant=EXPERIMENT).unclicked
        for name, index in indexes.items()
    }
    assert counts == {"declared": 2, first: 2, other: 1}


def engine_of(session: Session) -> sa.Engine:
    bind = session.get_bind()
    assert isinstance(bind, sa.Engine)
    return bind


def found_queries(session: Session, index: BoundIndex[Any]) -> list[str]:
    return [row.query for row in session.execute(search.clicks(index, TABLE))]


def test_visitors_with_too_many_impressions_are_left_out(session: Session) -> None:
    for number in range(8):
        show(session, hits(number), visitor="robot")
    for number in range(10, 13):
        show(session, hits(number, number + 1), visitor="person")
    show(session, hits(20))
    read = search.clicks(Article.semantic, TABLE, most_per_visitor=3)
    assert {row.id for row in session.execute(read)} == {"10", "11", "12", "13", "20"}
    few = [TABLE.c.key != "5"]
    read = search.clicks(Article.semantic, TABLE, where=few, most_per_visitor=7)
    assert len(session.execute(read).all()) == 7 + 6 + 1


def test_old_impressions_and_those_of_a_visitor_are_forgotten_in_parts(session: Session) -> None:
    for number in range(6):
        show(session, hits(1, 2), visitor=f"v{number % 2}")
    session.execute(
        sa.update(TABLE).where(TABLE.c.visitor == "v0").values(shown_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    )
    old = search.forget_impressions(TABLE, before=dt.datetime(2021, 1, 1, tzinfo=dt.UTC), limit=4)
    assert [session.execute(old).rowcount for _ in range(3)] == [4, 2, 0]  # type: ignore[attr-defined]
    assert {row for (row,) in stored(session, "visitor")} == {"v1"}
    nothing = search.forget_impressions(TABLE, before=dt.datetime(2021, 1, 1, tzinfo=dt.UTC), visitor="v1")
    assert session.execute(nothing).rowcount == 0  # type: ignore[attr-defined]
    session.execute(search.forget_impressions(TABLE, visitor="v1"))
    assert stored(session, "key") == []


def test_old_impressions_are_found_by_an_index(session: Session) -> None:
    session.execute(
        sa.text(
            "INSERT INTO impression (impression, rank, index_name, key, query, shown_at) "
            "SELECT gen_random_uuid(), 1, 'article_semantic', '1', 'harbour', now() - i * interval '1 minute' "
            "FROM generate_series(1, 20000) AS i"
        )
    )
    session.execute(sa.text("ANALYZE impression"))
    statement = search.forget_impressions(TABLE, before=dt.datetime.now(dt.UTC) - dt.timedelta(days=13), limit=100)
    compiled = statement.compile(session.connection())
    plan = session.connection().exec_driver_sql(f"EXPLAIN {compiled}", compiled.params).scalars().all()
    assert any("using ix_impression" in line for line in plan), plan


def test_autogenerate_finds_nothing_to_change_in_the_table(session: Session) -> None:
    def own(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name == "impression"

    context = MigrationContext.configure(session.connection(), opts={"include_name": own})
    assert compare_metadata(context, Logged.metadata) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"query": "  "}, "The query is empty"),
        ({"offset": -1}, "offset=-1: it must be 0 or more"),
        ({"hash_key": b"short"}, "hash_key has 5 bytes: use at least 16"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    complete: dict[str, Any] = {"query": "harbour", "impression": uuid.uuid4()} | given
    with pytest.raises(errors.QueryError, match=said):
        search.impressions(Article.semantic, hits(1), **complete)


def test_statements_without_what_they_need_are_refused() -> None:
    no_key: list[Hit[Any]] = [Hit(None, 0.0, {}, ())]
    with pytest.raises(errors.QueryError, match=r"search with options=Options\(keys=True\)"):
        search.impressions(Article.semantic, no_key, query="harbour", impression=uuid.uuid4())
    with pytest.raises(errors.QueryError, match="this would delete all impressions"):
        search.forget_impressions(TABLE)
    with pytest.raises(errors.QueryError, match="before has no time zone"):
        search.forget_impressions(TABLE, before=dt.datetime(2021, 1, 1))  # noqa: DTZ001 - refused
    number: Any = 7
    with pytest.raises(errors.QueryError, match="key=7 is not a text"):
        search.record_click(TABLE, impression=uuid.uuid4(), key=number)
    with pytest.raises(errors.QueryError, match="Pass texts and hash_key together"):
        search.clicks(Article.semantic, TABLE, texts=["harbour"])
    with pytest.raises(errors.QueryError, match="Pass texts and hash_key together"):
        search.clicks(Article.semantic, TABLE, hash_key=SECRET)


FIRST, SECOND = hits(*range(1, 11)), hits(*range(10, 0, -1))


def interleaved(session: Session, *clicked: str | None, visitor: str | None = None) -> None:
    """Stores an interleaved page for each of the teams that are clicked; None for a page without clicks."""
    for team in clicked:
        impression = uuid.uuid4()
        page = search.interleave(FIRST, SECOND, seed=impression)
        show(session, page, impression=impression, variant=EXPERIMENT, visitor=visitor)
        if team == "tie":
            for own in ("first", "second"):
                click(session, impression, next(one.hit.key for one in page if one.team == own))
        elif team is not None:
            click(session, impression, next(one.hit.key for one in page if one.team == team))


def outcome(session: Session, **given: Any) -> InterleavingOutcome:
    return evaluation.interleaving_outcome(session, Article.semantic, TABLE, variant=EXPERIMENT, **given)


def test_impressions_are_won_lost_tied_or_unclicked(session: Session) -> None:
    interleaved(session, "second", "second", "first", "tie", None, None, "second")
    show(session, FIRST, variant="now")
    both_alike = show(session, search.interleave(FIRST, FIRST, seed="1"), variant=EXPERIMENT)
    click(session, both_alike, 1)
    found = outcome(session)
    assert (found.first, found.second, found.ties, found.unclicked) == (1, 3, 2, 2)
    assert (found.index, found.variant, found.unit) == ("article_semantic", EXPERIMENT, "impression")
    assert found.p == pytest.approx(2 * 5 / 16)
    assert found.low < found.share < found.high
    assert found.preferred is None
    assert [one.split(":")[0] for one in found.warnings] == [
        "Only 4 impressions prefer one of the searches",
        "No preference is shown. If the majority stays as large, it takes about 29 impressions that prefer one.",
    ]
    assert outcome(session, where=[TABLE.c.key != "10", TABLE.c.visitor.is_(None)]).unclicked >= 2


def test_a_visitor_counts_once_by_the_sum_of_the_impressions(session: Session) -> None:
    interleaved(session, *["second"] * 40, visitor="busy")
    for number in range(20):
        interleaved(session, "first", "first", "second", None, visitor=f"v{number}")
    interleaved(session, "first", "second", visitor="undecided")
    interleaved(session, None, visitor="idle")
    interleaved(session, "second")
    each = outcome(session)
    assert (each.first, each.second, each.ties, each.unclicked) == (41, 62, 0, 21)
    assert any("A single visitor has 40 of the 103 impressions" in one for one in each.warnings)
    found = outcome(session, unit="visitor")
    assert (found.first, found.second, found.ties, found.unclicked) == (20, 1, 1, 1)
    assert found.preferred == "first"
    assert any("1 of 124 impressions were left out" in one for one in found.warnings)


def test_people_who_click_without_looking_seldom_prefer_a_search(session: Session) -> None:
    """Each page is shown with position bias and no preference; the test at 5% may raise few alarms."""
    chance = random.Random(3)  # noqa: S311 - not a secret
    made: list[dict[str, Any]] = []
    for number in range(40 * 50):
        impression = uuid.UUID(int=chance.getrandbits(128))
        page = search.interleave(FIRST, SECOND, seed=impression)
        given: dict[str, Any] = {"impression": impression, "variant": f"run {number % 40}"}
        for rank, row in enumerate(search.impressions(Article.semantic, page, query="harbour", **given)):
            when = dt.datetime.now(dt.UTC) if chance.random() < 0.5 * 0.7**rank else None
            made.append({**row, "clicked_at": when})
    session.execute(sa.insert(TABLE), made)
    found = [
        evaluation.interleaving_outcome(session, Article.semantic, TABLE, variant=f"run {number}")
        for number in range(40)
    ]
    assert sum(one.preferred is not None for one in found) <= 5  # 2 are expected
    assert abs(sum(one.second - one.first for one in found)) < 3 * sum(one.decided for one in found) ** 0.5


def test_an_experiment_without_impressions_is_said_to_have_none(session: Session) -> None:
    with pytest.raises(
        errors.QueryError, match="no impressions of 'article_semantic' with the variant 'rrf or convex'"
    ):
        outcome(session)
    interleaved(session, "first")
    with pytest.raises(errors.QueryError, match="unit='person' is unknown: use one of impression, visitor"):
        outcome(session, unit="person")


def test_rows_are_read_by_no_one_who_may_not_read_the_table(session: Session) -> None:
    role = f"reader_{uuid.uuid4().hex}"
    interleaved(session, "first")
    session.execute(sa.text(f"CREATE ROLE {role}; SET LOCAL ROLE {role}"))
    with pytest.raises(errors.DatabaseError):
        outcome(session)


def test_the_examples_of_the_guide_run_one_after_the_other(
    articles: sa.Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    execute(articles, "INSERT INTO article SELECT i, 'reset ' || i, NULL, 'en' FROM generate_series(1, 20) AS i")
    sync(articles)
    guide = documents.ROOT / "docs" / "how-to" / "learn-from-clicks.md"
    declared, *others = documents.blocks(guide, "python")
    metadata = sa.MetaData()
    base = types.SimpleNamespace(metadata=metadata)
    namespace: dict[str, Any] = {"Base": base, "Article": Article, "ENCODER": ENCODER}
    exec(declared, namespace)  # noqa: S102
    metadata.create_all(articles)
    with Session(articles) as session:
        namespace["session"] = session
        for block in others:
            if "Judgements.clicks" in block:
                for number in range(60):
                    made = show(session, hits(1, 2) if number % 2 else hits(2, 1))
                    click(session, made, 2 if number % 10 else 1)
            exec(block, namespace)  # noqa: S102
        printed = capsys.readouterr().out
        assert "1 2\n" in printed  # one query, two rows
        assert "0 of 0 prefer the second search, p 1.000" in printed
        assert session.execute(namespace["statement"]).all() != []


def test_the_table_can_have_another_name_and_schema(articles: sa.Engine) -> None:
    execute(articles, "CREATE SCHEMA logs")
    metadata = sa.MetaData()
    shown = search.impressions_table(metadata, name="shown", schema="logs")
    metadata.create_all(articles)
    made = search.impressions(Article.semantic, hits(1), query="harbour", impression=uuid.uuid4())
    with articles.begin() as connection:
        connection.execute(sa.insert(shown), made)
        assert len(connection.execute(search.clicks(Article.semantic, shown)).all()) == 1
    assert rows(articles, "SELECT key, query FROM logs.shown") == [("1", "harbour")]
