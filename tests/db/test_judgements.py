"""Judgements in a database: read from tables and clicks, matched with rows, and split for good."""

import random
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import errors, evaluation, generations, registry
from pg_semantic.evaluation import Judgements, existing_rows
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from tests.db.copies import await_blocked, begin, pid
from tests.db.library import Article, execute, generation_of, rows, sync
from tests.db.test_key_types import KEYS, create, prepare

UUID = "6f0c1c4e-0d5a-4b52-9a3e-0a1b2c3d4e5f"


class Judge(DeclarativeBase): ...


class Verdict(Judge):
    __tablename__ = "verdict"

    id: Mapped[int] = mapped_column(primary_key=True)
    query: Mapped[str | None]
    article_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    grade: Mapped[Any] = mapped_column(sa.Numeric(4, 1), nullable=True)
    relevant: Mapped[bool | None]


@pytest.fixture
def session(articles: sa.Engine) -> Iterator[Session]:
    """A session on a database with three articles and three verdicts about them."""
    Judge.metadata.create_all(articles)
    execute(
        articles, "INSERT INTO article (id, title, lang) SELECT i, 'title ' || i, 'en' FROM generate_series(1, 3) i"
    )
    execute(
        articles,
        "INSERT INTO verdict (id, query, article_id, grade, relevant) VALUES "
        "(1, 'harbour: 100%', 1, 2, true), (2, 'harbour: 100%', 2, 0, false), (3, 'pepper', 3, 1.0, true)",
    )
    with Session(articles) as made:
        yield made


VERDICTS = sa.select(Verdict.query, Verdict.article_id, Verdict.grade)
GRADES = {"harbour: 100%": {"1": 2, "2": 0}, "pepper": {"3": 1}}


def judged(**queries: dict[str, int]) -> Judgements:
    return Judgements(queries)


@pytest.mark.parametrize(
    "statement",
    [
        VERDICTS.order_by(Verdict.id),
        sa.union_all(VERDICTS.where(Verdict.id < 3), VERDICTS.where(Verdict.id == 3)),
        "SELECT query, article_id, grade FROM verdict ORDER BY id;",
        "SELECT query, article_id, grade::integer FROM verdict -- a comment",
        "WITH kept AS (SELECT * FROM verdict WHERE '{\"a\":1}%s' <> ':b') SELECT query, article_id, grade FROM kept",
        "SELECT query AS a, article_id AS a, 0 + grade FROM verdict",
    ],
    ids=["select", "union", "text", "comment", "colons", "names"],
)  # fmt: skip
@pytest.mark.parametrize("of", ["session", "connection"])
def test_a_statement_gives_its_grades(session: Session, statement: Any, of: str) -> None:
    given = session if of == "session" else session.connection()
    assert Judgements.select(given, Article.semantic, statement) == Judgements(GRADES)


def test_without_a_grade_rows_are_relevant_and_a_boolean_is_a_grade(session: Session) -> None:
    plain = Judgements.select(session, Article.semantic, sa.select(Verdict.query, Verdict.article_id))
    assert plain.grades == {"harbour: 100%": {"1": 1, "2": 1}, "pepper": {"3": 1}}
    boolean = sa.select(Verdict.query, Verdict.article_id, Verdict.relevant)
    assert Judgements.select(session, Article.semantic, boolean).grades["harbour: 100%"] == {"1": 1, "2": 0}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT query FROM verdict", "returns 1 columns, .* need query, id, and optionally grade, in this order"),
        ("SELECT query, article_id, grade, 1 FROM verdict", "returns 4 columns"),
        ("SELECT article_id, query FROM verdict", "Row 1 of the statement: the query must be text"),
        ("SELECT query, NULL::integer FROM verdict", "Row 1 of the statement: the key must be a text"),
        ("SELECT query, article_id, 0.5 FROM verdict", "Row 1 of the statement: the grade must be"),
        ("SELECT query, article_id, NULL FROM verdict", "Row 1 of the statement: the grade must be"),
        ("SELECT query, article_id, 'NaN'::numeric FROM verdict", "Row 1 of the statement: the grade must be"),
        ("SELECT query, 1, id FROM verdict", "Row 2 of the statement: an earlier judgement of the same query and row"),
        ("SELECT query, 1 FROM verdict WHERE false", "returns no judgements"),
        ("SELEC query", "The statement is not valid here: .*syntax error"),
        ("SELECT query, nothing FROM verdict", "The statement is not valid here: .*column \"nothing\" does not exist"),
        ("SELECT query, 1 FROM nowhere", "The statement is not valid here: .*nowhere"),
        ("DELETE FROM verdict RETURNING query, 1", "The statement is not valid here"),
        ("SELECT query, 1 FROM verdict; DELETE FROM verdict", "The statement is not valid here"),
    ],
)  # fmt: skip
def test_a_statement_without_judgements_is_refused(session: Session, statement: str, said: str) -> None:
    with pytest.raises(errors.QueryError, match=said):
        Judgements.select(session, Article.semantic, statement)
    session.rollback()
    assert session.scalar(sa.text("SELECT count(*) FROM verdict")) == 3


def test_a_statement_runs_with_the_privileges_of_the_session(session: Session) -> None:
    role = f"judge_{uuid.uuid4().hex}"
    session.execute(sa.text(f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}; SET LOCAL ROLE {role}"))
    with pytest.raises(errors.DatabaseError, match="lacks privileges: permission denied for table verdict"):
        Judgements.select(session, Article.semantic, "SELECT query, article_id FROM verdict")


# Keys that name the same row, keys without a row, and texts that are no key. The first is the canonical one.
WRITTEN: dict[str, tuple[str, list[str], list[str]]] = {
    "integer": ("7", ["007", " 7 ", "+7"], ["8", "x", "7.5", "99999999999", "[7]", "7\0", "\ud800", ""]),
    "bigint": ("7", ["07"], ["99999999999999999999", "7e0"]),
    "uuid": (UUID, [UUID.upper(), f"{{{UUID}}}", UUID.replace("-", "")], [UUID[:-1], "7", UUID[:-1] + "0"]),
    "text": ("R 1", [], ["r 1", "R 1 ", "007"]),
    "varchar(5)": ("R 1", [], ["R 123456789"]),
    "numeric(10, 2)": ("7.50", ["7.5", "0007.500"], ["7", "x", "NaN"]),
    "date": ("2026-02-28", ["20260228", "28 Feb 2026"], ["2026-02-30", "2026-03-01", "x"]),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_row_is_found_however_its_key_is_written(engine: sa.Engine, kind: str) -> None:
    canonical, same, gone = WRITTEN[kind]
    execute(engine, f"CREATE TABLE note (k {kind} PRIMARY KEY, words text)")
    index = create(engine)
    execute(engine, f"INSERT INTO note VALUES (CAST(:k AS {kind}), 'harbour')", k=canonical)
    for key in (canonical, *same):
        with Session(engine) as session:
            given = judged(q={key: 2, **dict.fromkeys(gone, 1)}, lost=dict.fromkeys(gone, 0))
            assert given.resolved(session, index) == (judged(q={canonical: 2}), 2 * len(gone))


def test_a_row_with_a_composite_key_is_found_however_the_key_is_written(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (tenant integer, name text, words text, PRIMARY KEY (name, tenant))")
    index = create(engine)
    execute(engine, "INSERT INTO note VALUES (7, 'a \"b\", é', 'harbour'), (8, 'c', 'harbour')")
    canonical = '["a \\"b\\", é", "7"]'
    same = ['["a \\"b\\", é","007"]', '[ "a \\"b\\", \\u00e9" , 7 ]']
    gone = [
        '["c", "7"]',
        '["c"]',
        '["c", "8", "9"]',
        '["c", "x"]',
        '["c", null]',
        '["c", true]',
        "c",
        "{}",
        "[",
        '["\\u0000", 8]',
    ]
    with Session(engine) as session:
        for key in (canonical, *same):
            given = judged(q={key: 1, **dict.fromkeys(gone, 1)})
            assert given.resolved(session, index) == (judged(q={canonical: 1}), len(gone))
        columns = sa.select(sa.literal("q"), index.tables.source_key[0], index.tables.source_key[1])
        assert '["c", "8"]' in Judgements.select(session, index, columns).grades["q"]
        with pytest.raises(errors.QueryError, match="need query, name, tenant, and optionally grade"):
            Judgements.select(session, index, "SELECT 'q', 'c'")  # fmt: skip


def test_a_key_of_any_type_is_found_and_a_malformed_one_is_gone(engine: sa.Engine) -> None:
    prepare(engine)
    for number, (kind, *values) in enumerate(KEYS):
        execute(engine, f"CREATE TABLE t{number} (k {kind} PRIMARY KEY, words text)")
        index = create(engine, f"t{number}")
        plain = kind.partition(" COLLATE")[0]
        for value in values:
            execute(engine, f"INSERT INTO t{number} VALUES (CAST(:value AS {plain}), 'harbour')", value=value)
        with Session(engine) as session:
            found, gone = judged(q=dict.fromkeys(values, 1) | {"{(no ' key\\": 1}).resolved(session, index)
            assert (found.count, gone) == (2, 1), kind
            assert found.resolved(session, index) == (found, 0), kind


def test_ways_to_write_a_key_with_different_grades_are_refused(session: Session) -> None:
    assert judged(q={"1": 1, "01": 1}).resolved(session, Article.semantic) == (judged(q={"1": 1}), 0)
    with pytest.raises(errors.QueryError, match="different grades to 1 rows"):
        judged(q={"1": 1, "01": 0}).resolved(session, Article.semantic)


def test_rows_are_looked_up_by_key_whatever_the_number_of_keys(session: Session) -> None:
    session.execute(sa.text("INSERT INTO article (id, lang) SELECT i, 'en' FROM generate_series(4, 20000) i"))
    session.execute(sa.text("ANALYZE article"))
    statement = existing_rows.lookup(Article.semantic, [str(key) for key in range(10_000)])
    compiled = statement.compile(session.connection())
    plan = session.connection().exec_driver_sql(f"EXPLAIN {compiled}", compiled.params).scalars().all()
    assert any("using article_pkey" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan


def test_more_keys_than_a_page_are_found(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing_rows, "_PAGE", 2)
    found, gone = judged(q={str(key): 1 for key in range(7)}).resolved(session, Article.semantic)
    assert (set(found.grades["q"]), gone) == ({"1", "2", "3"}, 4)


def test_rows_that_policies_hide_are_gone(session: Session) -> None:
    role = f"judge_{uuid.uuid4().hex}"
    session.execute(
        sa.text(
            f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}; ALTER TABLE article ENABLE ROW LEVEL SECURITY; "
            f"CREATE POLICY one ON article USING (id = 2); SET LOCAL ROLE {role}"
        )
    )
    assert judged(q={"1": 1, "2": 1}).resolved(session, Article.semantic) == (judged(q={"2": 1}), 1)


CLICK = sa.table("click", *map(sa.column, ("query", "article_id", "rank", "clicked")))
CLICKS = sa.select(CLICK.c.query, CLICK.c.article_id, CLICK.c.rank, CLICK.c.clicked)


def show(session: Session, shown: Sequence[tuple[str, int, int, bool]]) -> None:
    """Stores a row for each time that a row was shown."""
    session.execute(sa.text("CREATE TABLE IF NOT EXISTS click (query text, article_id int, rank int, clicked bool)"))
    binds = [dict(zip(CLICK.c.keys(), one, strict=True)) for one in shown]
    session.execute(sa.text("INSERT INTO click VALUES (:query, :article_id, :rank, :clicked)"), binds)


def test_clicks_over_expected_clicks_recover_relevance_where_clicks_do_not(session: Session) -> None:
    """People look at rank r with probability 0.6 ** (r - 1), and click on relevant rows three times as often."""
    chance = random.Random(1)  # noqa: S311 - not a secret
    attraction, times = {1: 0.2, 2: 0.2, 3: 0.2, 4: 0.6, 5: 0.6}, 2000
    session.execute(sa.text("CREATE TABLE click (query text, article_id int, rank int, clicked bool)"))
    times_shown = "INSERT INTO click SELECT :query, :row, :rank, n <= :clicks FROM generate_series(1, :times) AS n"
    raw: dict[str, dict[str, int]] = {}
    for query in map("query {}".format, range(20)):
        for rank, row in enumerate(chance.sample(sorted(attraction), 5), start=1):
            probability = 0.6 ** (rank - 1) * attraction[row]
            clicks = sum(chance.random() < probability for _ in range(times))
            raw.setdefault(query, {})[str(row)] = clicks
            binds = {"query": query, "row": row, "rank": rank, "clicks": clicks, "times": times}
            session.execute(sa.text(times_shown), binds)
    estimated = Judgements.clicks(session, Article.semantic, CLICKS)
    assert estimated.implicit
    assert {query: estimated.relevant(query) for query in raw} == {query: {"4", "5"} for query in raw}
    most_clicked = [set(sorted(clicks, key=clicks.__getitem__)[-2:]) for clicks in raw.values()]
    assert most_clicked.count({"4", "5"}) < 15


def test_the_grade_follows_from_the_ratio_and_rows_seldom_shown_have_none(session: Session) -> None:
    """Rank 1 is clicked in 59 of 599 cases, so that 100 times shown are 9.85 expected clicks, and 90 are 8.86."""
    clicks = {1: 0, 2: 9, 3: 10, 4: 21}
    shown = [("q", row, 1, number < count) for row, count in clicks.items() for number in range(100)]
    show(session, shown + [("rare", 1, 1, number < 9) for number in range(90)] + [("rare", 2, 1, False)] * 9)
    show(session, [("  ", 1, 1, number < 10) for number in range(100)])  # no one can search for this
    assert rows_of(session, "SELECT sum(clicked::int), count(*) FROM click") == [(59, 599)]
    estimated = Judgements.clicks(session, Article.semantic, CLICKS, least_expected=9)
    assert estimated.grades == {"q": {"1": 0, "2": 0, "3": 1, "4": 2}}


def rows_of(session: Session, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(sa.text(statement))]


def test_clicks_on_spellings_of_a_query_count_together_for_the_most_frequent(session: Session) -> None:
    spellings = ["Straße  Tee", "straße tee", "straße tee", "STRASSE\u00a0TEE", "ｓtraße tee"]  # noqa: RUF001 - wide
    show(session, [(spelling, 1, 1, number < 3) for spelling in spellings for number in range(20)])
    show(session, [(spelling, row, 1, False) for spelling in spellings for row in (2, 3) for number in range(20)])
    grades = {"straße tee": {"1": 2, "2": 0, "3": 0}}  # five expected clicks on each row
    assert Judgements.clicks(session, Article.semantic, CLICKS, least_expected=3).grades == grades  # pooled by Postgres
    estimated = Judgements.clicks(session, Article.semantic, CLICKS, least_expected=0.5)
    assert estimated.grades == grades
    assert estimated.distinct() == estimated


def test_a_number_of_clicks_counts_once_and_null_is_not_clicked(session: Session) -> None:
    show(session, [("q", 1, 1, number < 50) for number in range(100)] + [("q", 2, 1, False)] * 100)
    text = "SELECT query, article_id, rank, CASE WHEN clicked THEN 3 END FROM click"
    assert Judgements.clicks(session, Article.semantic, text).grades == {"q": {"1": 2, "2": 0}}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ([], "returns no rows with a query, a key and a rank"),
        ([("q", 1, None, True)], "returns no rows with a query, a key and a rank"),
        ([("q", 1, 1, True)] * 20, "All 20 rows were clicked. Return the rows that were shown and not clicked too"),
        ([("q", 1, 1, False)] * 20, "None of the 20 rows was clicked"),
        ([("q", 1, 1, True), ("q", 1, 1, False)], "No row has 10 expected clicks"),
    ],
)
def test_clicks_that_say_nothing_are_refused(session: Session, shown: list[Any], said: str) -> None:
    session.execute(sa.text("CREATE TABLE click (query text, article_id int, rank int, clicked bool)"))
    if shown:
        show(session, shown)
    with pytest.raises(errors.QueryError, match=said):
        Judgements.clicks(session, Article.semantic, CLICKS)


def test_clicks_need_all_columns_and_a_sensible_limit(session: Session) -> None:
    with pytest.raises(errors.QueryError, match="need query, id, rank, clicked, in this order"):
        Judgements.clicks(session, Article.semantic, "SELECT 'q', 1, 1")
    with pytest.raises(errors.QueryError, match="least_expected=0: it must be above 0"):
        Judgements.clicks(session, Article.semantic, "SELECT 'q', 1, 1, true", least_expected=0)


def many(count: int = 60, *, first: int = 0) -> Judgements:
    """Judgements of one row each."""
    return Judgements({f"query {number}": {str(number + 1): 1} for number in range(first, first + count)})


@pytest.fixture
def large(articles: sa.Engine) -> sa.Engine:
    """A database with 200 articles."""
    execute(articles, "INSERT INTO article (id, title, lang) SELECT i, 'harbour', 'en' FROM generate_series(1, 200) i")
    return articles


def test_the_database_remembers_the_sides_whatever_the_seed_and_the_spelling(large: sa.Engine) -> None:
    with Session(large) as session:
        first = evaluation.split(session, Article.semantic, many(), held_out=0.3)
        session.commit()
    assert len(first.held_out) == 18
    louder = Judgements({query.upper(): graded for query, graded in many().grades.items()})
    with Session(large) as session:
        again = evaluation.split(session, Article.semantic, louder.merged(many(60, first=60)), held_out=0.6, seed=7)
        known = evaluation.held_out_hashes(session, Article.semantic)
    assert {query.lower() for query in again.held_out.queries if query.isupper()} == set(first.held_out.queries)
    assert len(again.held_out) == 72
    assert known == {evaluation.query_hash(query) for query in again.held_out.queries}


def test_a_split_that_is_rolled_back_is_forgotten_and_gone_rows_are_counted(large: sa.Engine) -> None:
    with Session(large) as session:
        parts = evaluation.split(session, Article.semantic, many(5, first=198), held_out=1)
        assert (len(parts.held_out), parts.gone) == (2, 3)
        session.rollback()
        assert evaluation.held_out_hashes(session, Article.semantic) == frozenset()


def test_keys_are_compared_in_canonical_form(large: sa.Engine) -> None:
    with Session(large) as session:
        parts = evaluation.split(session, Article.semantic, judged(a={"007": 1}, b={"7": 1}, c={"8": 1}), held_out=0.34)
    assert {("a", "b"), ("c",)} == {parts.train.queries, parts.held_out.queries}
    assert {"7": 1} in [*parts.train.grades.values(), *parts.held_out.grades.values()]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(large: sa.Engine, share: float) -> None:
    with Session(large) as session, pytest.raises(errors.QueryError, match="it is a share of the queries, 0 to 1"):
        evaluation.split(session, Article.semantic, many(), held_out=share)


def test_two_splits_at_once_agree_on_the_sides(large: sa.Engine) -> None:
    mine, theirs = many(40), many(40, first=20).merged(judged(joined={"21": 1, "1": 1}))
    with Session(large) as first, Session(large) as second, ThreadPoolExecutor(1) as pool:
        ours = evaluation.split(first, Article.semantic, mine, held_out=0.5, seed=1)
        process = pid(first.connection())
        waiting = pool.submit(evaluation.split, second, Article.semantic, theirs, held_out=0.5, seed=2)
        await_blocked(large, process, waiting.done)
        first.commit()
        others = waiting.result()
        second.commit()
    recorded = dict(rows(large, "SELECT query_hash, held_out FROM semantic.judged_query"))
    for parts in (ours, others):
        for part, is_held_out in ((parts.train, False), (parts.held_out, True)):
            for query in part.queries:
                assert recorded[evaluation.query_hash(query)] is is_held_out
    common = set(mine.queries) & set(theirs.queries)
    assert common - set(others.left_out.queries) <= set(others.train.queries) | set(others.held_out.queries)


def test_nothing_is_tuned_or_trained_on_what_is_held_out(large: sa.Engine) -> None:
    with Session(large) as session:
        parts = evaluation.split(session, Article.semantic, many(), held_out=0.3)
        evaluation.require_not_held_out(session, Article.semantic, [*parts.train.queries, "unknown"])
        with pytest.raises(errors.QueryError, match="18 of 60 queries are held out") as refused:
            evaluation.require_not_held_out(session, Article.semantic, many().queries)
        assert "query 1" not in str(refused.value)
        [answer] = parts.held_out.grades[parts.held_out.queries[0]]
        more = many().merged(judged(paraphrase={answer: 1, "200": 1}, negative={answer: 0}, gone={"999": 1}))
        left = evaluation.without_held_out(session, Article.semantic, more)
        assert (left.held_out_queries, left.held_out_pairs, left.gone) == (18, 2, 1)
        assert left.judgements == parts.train.merged(judged(paraphrase={"200": 1}))
        others = more.only([*parts.train.queries, "paraphrase", "negative"])  # without those that are held out
        plain = evaluation.without_held_out(session, Article.semantic, others)
        assert (plain.held_out_queries, plain.held_out_pairs, plain.gone) == (0, 0, 0)
        strict = evaluation.without_held_out(session, Article.semantic, others, and_rows=many())
        assert (strict.held_out_queries, strict.held_out_pairs, strict.gone) == (0, 2, 0)
        assert strict.judgements == left.judgements


def test_what_was_trained_on_is_never_held_out(large: sa.Engine) -> None:
    with Session(large) as session:
        evaluation.record_training(session, Article.semantic, many(20).queries)
        parts = evaluation.split(session, Article.semantic, many(40), held_out=1)
        assert parts.held_out == many(20, first=20)
        assert parts.train == many(20)
        with pytest.raises(errors.QueryError, match="1 of 2 queries are held out"):
            evaluation.record_training(session, Article.semantic, ["query 30", "query 50"])


def test_a_role_without_the_privileges_of_a_worker_is_told_so(large: sa.Engine) -> None:
    role = f"judge_{uuid.uuid4().hex}"
    execute(large, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    for ask in (
        lambda session: evaluation.split(session, Article.semantic, many()),
        lambda session: evaluation.held_out_hashes(session, Article.semantic),
        lambda session: evaluation.without_held_out(session, Article.semantic, many()),
    ):
        with Session(large) as session:
            session.execute(sa.text(f"SET LOCAL ROLE {role}"))
            with pytest.raises(errors.DatabaseError, match="needs the privileges of a worker"):
                ask(session)


def test_all_generations_of_an_index_have_the_same_sides(large: sa.Engine) -> None:
    with Session(large) as session:
        evaluation.split(session, Article.semantic, many(), held_out=0.3)
        session.commit()
    sync(large)
    live = generation_of(large)
    begin(large, chunking=None)
    sync(large)
    for generation in (live, generations.find(large, "article_semantic", "next")):
        for index in (declare.bind(generation.spec), Article.semantic, as_worker(generation)):
            with Session(large) as session:
                assert len(evaluation.held_out_hashes(session, index)) == 18
    execute(large, "DROP TABLE article CASCADE")
    with Session(large) as session:
        session.execute(sa.text("DELETE FROM semantic.semantic_index"))
        with pytest.raises(errors.IndexNotFound, match="has not been created in this database"):
            evaluation.held_out_hashes(session, Article.semantic)


def as_worker(generation: registry.Generation) -> BoundIndex[Any]:
    """An index with the views of a generation for tables."""
    bound = declare.bind(generation.spec)
    return BoundIndex(bound.entity, generation.tables, bound.Chunk)


def test_an_index_that_was_never_created_is_said_to_be_missing(engine: sa.Engine) -> None:
    with Session(engine) as session, pytest.raises(errors.IndexNotFound, match="has not been created"):
        evaluation.held_out_hashes(session, Article.semantic)


def test_an_alias_of_the_class_has_the_same_sides(large: sa.Engine) -> None:
    alias = Article.semantic.of(orm.aliased(Article))
    with Session(large) as session:
        evaluation.split(session, alias, many(), held_out=0.3)
        assert len(evaluation.held_out_hashes(session, Article.semantic)) == 18
