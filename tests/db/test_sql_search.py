"""Search from plain SQL: each index's function ranks as the package does, with the caller's privileges."""

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import Searcher, SemanticIndex, encoders, generations
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.search.request import Mode, Options
from pg_semantic.worker import privileges
from tests.db.library import Article, Base, encoder, execute, generation_of, rows, sync

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
_WORDS = ["harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle"]
_ROLE = "semantic_analyst"

Found = list[tuple[Any, ...]]


def remember(engine: sa.Engine, text: str, *, reference: str = "hashed:32") -> None:
    """Puts the vector of a text where a worker would leave it."""
    vector = encoders.load(reference).encode_queries([text])[0].tolist()
    execute(
        engine,
        "INSERT INTO semantic.query_vector (encoder_id, text_hash, vector) "
        "SELECT id, semantic.text_hash_v1(:text), CAST(:vector AS real[]) FROM semantic.encoder "
        "WHERE reference = :reference ON CONFLICT DO NOTHING",
        text=text,
        vector=vector,
        reference=reference,
    )


def found(engine: sa.Engine, text: str, k: int = 10, **given: Any) -> Found:
    """What the function gives."""
    more = "".join(f", {name} => :{name}" for name in given)
    return rows(engine, f"SELECT * FROM article_semantic_search(:text, :k{more})", text=text, k=k, **given)


def asked(engine: sa.Engine, text: str, k: int = 10, **given: Any) -> Found:
    """The same from Python."""
    with orm.Session(engine) as session:
        hits = Searcher(encoder()).search(session, Article.semantic, text, limit=k, **given)
        return [(hit.entity.id, hit.score, hit.passage, hit.ordinal) for hit in hits]


def plan(engine: sa.Engine, text: str, k: int = 10, *, filtered: bool = False, mode: str = "dense") -> str:
    """How the server executes the statement of a search."""
    [(statement,)] = rows(
        engine, "SELECT semantic.search_sql_v1(id, :m, :k, :f) FROM semantic.generation", m=mode, k=k, f=filtered
    )
    [(asked_by,)] = rows(engine, "SELECT CAST(CAST(semantic.embed('article_semantic', :t) AS vector) AS text)", t=text)
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        run("SET LOCAL hnsw.iterative_scan = 'strict_order'")
        run(f"PREPARE asked (vector, text, integer, double precision, integer[]) AS {statement.replace('%', '%%')}")
        keys = "ARRAY[1, 2, 3]" if filtered else "NULL"
        lines = run(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked ('{asked_by}', 'x', {k}, NULL, {keys})")
        text = "\n".join(line for (line,) in lines)
        run("DEALLOCATE asked")
        return text


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4), k=st.sampled_from([1, 7, 40, 150]))
def test_it_finds_what_the_package_finds(many_articles: sa.Engine, mode: Mode, words: list[str], k: int) -> None:
    text = " ".join(words)
    remember(many_articles, text)
    expected = asked(many_articles, text, k, mode=mode)
    here = found(many_articles, text, k, mode=mode)
    if mode == "dense":  # chunks of equal texts may change places at the cut: both are approximate
        assert [score for _, score, *_ in here] == pytest.approx([score for _, score, *_ in expected], abs=0.002)
        assert len(here) == len(expected) == k
    else:
        assert [row[0] for row in here] == [row[0] for row in expected]
        assert [row[1] for row in here] == pytest.approx([row[1] for row in expected])


@pytest.mark.parametrize("mode", MODES)
def test_only_rows_of_the_keys_that_are_given_are_ranked(many_articles: sa.Engine, mode: Mode) -> None:
    text, keys = "harbour candle", list(range(1, 4000, 400))
    remember(many_articles, text)
    here = found(many_articles, text, 20, mode=mode, keys=keys)
    assert here == asked(many_articles, text, 20, mode=mode, where=[Article.id.in_(keys)])
    assert found(many_articles, text, mode=mode, keys=[]) == []
    if mode == "dense":
        assert sorted(row[0] for row in here) == keys


def test_a_least_score_leaves_out_what_is_below(many_articles: sa.Engine) -> None:
    remember(many_articles, "harbour candle")
    every = found(many_articles, "harbour candle", 50)
    least = every[20][1]
    assert found(many_articles, "harbour candle", 50, min_score=least) == [row for row in every if row[1] >= least]


def test_a_least_score_leaves_out_of_a_hybrid_search_what_the_package_leaves_out(many_articles: sa.Engine) -> None:
    remember(many_articles, "harbour candle")
    least = found(many_articles, "harbour candle", 150, mode="hybrid")[-20][1]
    for k in (20, 150, 250):
        here = found(many_articles, "harbour candle", k, mode="hybrid", min_score=least)
        options = Options(min_score=least)
        assert [row[0] for row in here] == [
            row[0] for row in asked(many_articles, "harbour candle", k, mode="hybrid", options=options)
        ]


def test_the_vector_index_is_walked_and_nothing_is_computed_beside(many_articles: sa.Engine) -> None:
    remember(many_articles, "violin glacier")
    shown = plan(many_articles, "violin glacier")
    assert "Index Scan using chunks_" in shown or "article_semantic_vector_idx" in shown
    assert "(never executed)" in shown  # the exact ranking
    assert "article_semantic_vector_idx" not in plan(many_articles, "violin glacier", filtered=True)


def test_there_are_as_many_rows_as_are_asked_for_however_few_the_caller_may_see(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'harbour ' || i, NULL, 'en' FROM generate_series(1, 600) AS i")
    sync(articles)
    remember(articles, "harbour 7")
    execute(articles, f"CREATE ROLE {_ROLE}")
    try:
        execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
        execute(articles, f"CREATE POLICY few ON article TO {_ROLE} USING (id % 50 = 0)")
        execute(articles, f"GRANT SELECT ON article TO {_ROLE}")
        privileges.follow(articles)
        for mode in MODES:
            with articles.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL ROLE {_ROLE}"))
                statement = sa.text("SELECT id FROM article_semantic_search('harbour 7', 12, :mode)")
                seen = list(connection.scalars(statement, {"mode": mode}))
                assert len(seen) == 12
                assert all(number % 50 == 0 for number in seen)
        execute(articles, f"REVOKE SELECT ON article FROM {_ROLE}")
        privileges.follow(articles)
        with articles.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL ROLE {_ROLE}"))
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                connection.execute(sa.text("SELECT * FROM article_semantic_search('harbour 7', 12)"))
    finally:
        execute(articles, f"DROP OWNED BY {_ROLE}; DROP ROLE {_ROLE}")


@pytest.mark.parametrize("table", ["query_vector", "query_request"])
def test_nobody_reads_or_changes_what_others_ask(articles: sa.Engine, table: str) -> None:
    execute(articles, "CREATE ROLE semantic_curious")
    try:
        for statement in (f"SELECT * FROM semantic.{table}", f"DELETE FROM semantic.{table}"):
            with articles.begin() as connection:
                connection.execute(sa.text("SET LOCAL ROLE semantic_curious"))
                with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                    connection.execute(sa.text(statement))
    finally:
        execute(articles, "DROP ROLE semantic_curious")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'apple', mode => 'semantic'", "mode 'semantic' is unknown"),
        ("'apple', mode => NULL", "mode NULL is unknown"),
        ("'apple', 0", "k is 0"),
        ("'apple', NULL", "k is NULL"),
        ("'apple', 10001", "k is 10001"),
        ("''", "the query is empty"),
        ("E' \\n'", "the query is empty"),
        ("NULL", "the query is empty"),
        ("repeat('x', 10001)", "the query has 10001 characters"),
        ("NULL, mode => 'lexical'", "the query is empty"),
    ],
)
def test_what_can_not_be_searched_for_is_an_error_that_says_why(
    articles: sa.Engine, arguments: str, message: str
) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=message):
        rows(articles, f"SELECT * FROM article_semantic_search({arguments})")


@pytest.mark.parametrize("mode", MODES)
def test_strings_of_an_old_kind_are_no_problem(articles: sa.Engine, mode: Mode) -> None:
    remember(articles, "harbour")
    with articles.connect() as connection:
        connection.exec_driver_sql("SET standard_conforming_strings = off")
        connection.exec_driver_sql("DISCARD PLANS")
        assert connection.execute(sa.text(f"SELECT * FROM article_semantic_search('harbour', 1, '{mode}')")).all() == []


def test_an_index_without_bm25_has_no_lexical_search(bare_index: sa.Engine) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="its live copy was created with lexical=None"):
        rows(bare_index, "SELECT * FROM semantic.search_sql_v1(1, 'hybrid', 10, false)")


@pytest.fixture
def bare_index(engine: sa.Engine) -> sa.Engine:
    class Plain(DeclarativeBase): ...

    class Note(Plain):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

        semantic = SemanticIndex("body", encoder="hashed:32", lexical=None)

    Plain.metadata.create_all(engine)
    return engine


def test_a_key_of_any_columns_is_typed_and_filtered_by(engine: sa.Engine) -> None:
    class Odd(DeclarativeBase): ...

    class Page(Odd):
        __tablename__ = 'a {vector} of "pages"'
        __table_args__ = ({"schema": "Odd {key}"},)

        k: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
        lang: Mapped[str] = mapped_column('the "{source}"', sa.String(5), primary_key=True)
        body: Mapped[str]

        semantic = SemanticIndex("body", name="page", encoder="hashed:32")

    execute(engine, 'CREATE SCHEMA "Odd {key}"')
    Odd.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(Page(k=number, lang=lang, body=f"thistle {number}") for number in (1, 2) for lang in "de")
        session.commit()
    sync(engine)
    remember(engine, "thistle 2")
    for mode in MODES:
        here = rows(engine, "SELECT * FROM \"Odd {key}\".page_search('thistle 2', 10, :mode)", mode=mode)
        assert [row[:2] for row in here][:2] == [(2, "d"), (2, "e")]
        filtered = (
            'SELECT key_k, "the ""{source}""" FROM "Odd {key}".page_search(\'thistle 2\', 10, :mode, '
            "ARRAY[1, 2], ARRAY['e', 'd'])"
        )
        assert set(rows(engine, filtered, mode=mode)) == {(2, "d"), (1, "e")}
    Odd.metadata.drop_all(engine)
    assert rows(engine, "SELECT proname FROM pg_proc WHERE proname = 'page_search'") == []


@pytest.mark.parametrize(
    "names",
    [
        ("no", "keys_no"),
        ("k", "key_k"),
        ("score", "key_score"),
        ("x" * 60 + "aaa", "x" * 60 + "bbb"),
        ("$1", "$2"),
        ("query", "mode"),
    ],
)
def test_key_columns_whose_names_would_be_given_twice_have_numbers(engine: sa.Engine, names: tuple[str, str]) -> None:
    key = ", ".join(f'"{name}"' for name in names)
    execute(engine, f'CREATE TABLE note ("{names[0]}" int, "{names[1]}" int, words text, PRIMARY KEY ({key}))')
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=EncoderSpec("hashed:32", 32))
    create_index.create(engine, spec)
    execute(engine, "INSERT INTO note SELECT i, i, 'thistle ' || i FROM generate_series(1, 3) AS i")
    sync(engine)
    statement = "SELECT * FROM note_semantic_search('thistle', 10, 'lexical', ARRAY[1, 2], ARRAY[2, 2])"
    assert [row[:2] for row in rows(engine, statement)] == [(2, 2)]


def test_a_key_may_have_the_names_that_a_search_gives_to_what_it_computes(engine: sa.Engine) -> None:
    class Ranked(DeclarativeBase): ...

    class Page(Ranked):
        __tablename__ = "page"

        value: Mapped[str] = mapped_column(primary_key=True)
        rank: Mapped[int] = mapped_column(primary_key=True)
        distance: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

        semantic = SemanticIndex("body", encoder="hashed:32")

    Ranked.metadata.create_all(engine)
    execute(engine, "INSERT INTO page SELECT i, i, i, 'thistle ' || i FROM generate_series(1, 9) AS i")
    sync(engine)
    remember(engine, "thistle 2")
    for mode in MODES:
        [row, *_] = rows(engine, "SELECT * FROM page_semantic_search('thistle 2', 10, :mode)", mode=mode)
        assert row[:3] == ("2", 2, 2)
        with orm.Session(engine) as session:
            [hit] = Searcher(encoder()).search(session, Page.semantic, "thistle 2", limit=1, mode=mode)
            assert hit.entity.rank == 2


def test_a_function_of_that_name_that_is_not_ours_is_left_alone(engine: sa.Engine) -> None:
    execute(engine, "CREATE FUNCTION article_semantic_search(query text) RETURNS int RETURN 1")
    Base.metadata.create_all(engine)
    Base.metadata.drop_all(engine)
    assert rows(engine, "SELECT article_semantic_search('x')") == [(1,)]


def test_a_switch_is_followed(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'anchor ' || i, NULL, 'en' FROM generate_series(1, 30) AS i")
    sync(articles)
    live = generation_of(articles)
    other = dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:48", 48), storage="vector")
    generations.begin(articles, live, other)
    sync(articles)
    remember(articles, "anchor 3")
    remember(articles, "anchor 3", reference="hashed:48")
    with articles.connect() as connection:
        statement = sa.text("SELECT id, score FROM article_semantic_search('anchor 3', 30)")
        before = connection.execute(statement).all()
        connection.commit()
        generations.switch(articles, "article_semantic")
        after = connection.execute(statement).all()
        assert len(before) == len(after) == 30
        assert before[0].id == after[0].id == 3
        assert before != after
        connection.commit()
        generations.rollback(articles, "article_semantic", drop_next=False)
        assert connection.execute(statement).all() == before


def test_a_query_vector_may_be_used_in_a_statement_of_ones_own(many_articles: sa.Engine) -> None:
    remember(many_articles, "pepper lantern")
    statement = """
        SELECT id FROM article_semantic
        ORDER BY vector <=> (SELECT semantic.embed('article_semantic', 'pepper lantern'))::halfvec LIMIT 5
    """
    assert len(rows(many_articles, statement)) == 5
    assert "article_semantic_vector_idx" in "".join(line for (line,) in rows(many_articles, f"EXPLAIN {statement}"))


def test_what_is_no_semantic_index_is_said(articles: sa.Engine) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="article is not a semantic index"):
        rows(articles, "SELECT semantic.embed('article', 'x')")
