"""Clusters of rows: by their meaning, named by their most typical row and their words, as far as the role sees them."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, search
from pg_semantic.index import declare
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.search import Cluster
from pg_semantic.worker import privileges
from tests.db.library import Article, execute, generation_of, sync
from tests.db.similar_rows import Chunk, store

SUBJECTS = ("harbour candle", "engine violin", "pepper lantern walnut")


def fill(engine: sa.Engine) -> None:
    """Sixty rows about the first subject, thirty about the second, fifteen about the third, and some without text."""
    for number, (subject, count) in enumerate(zip(SUBJECTS, (60, 30, 15), strict=True)):
        execute(
            engine,
            "INSERT INTO article SELECT :first + i, :subject || ' ' || i % 5, NULL, :subject "
            "FROM generate_series(1, :count) AS i",
            first=1000 * number,
            subject=subject,
            count=count,
        )
    execute(engine, "INSERT INTO article SELECT 9000 + i, NULL, '  ', 'none' FROM generate_series(1, 20) AS i")
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def session(library: sa.Engine) -> Iterator[Session]:
    with Session(library) as made:
        yield made


def clusters(session: Session, **given: Any) -> list[Cluster[Article]]:
    return search.clusters(session, Article.semantic, **given)


def test_rows_of_one_subject_are_a_cluster_with_its_words_and_a_typical_row(session: Session) -> None:
    found = clusters(session, count=3)
    assert [(one.size, one.medoid.lang) for one in found] == [(60, SUBJECTS[0]), (30, SUBJECTS[1]), (15, SUBJECTS[2])]
    assert [set(one.terms) for one in found] == [set(subject.split()) for subject in SUBJECTS]
    assert [one.share for one in found] == pytest.approx([60 / 105, 30 / 105, 15 / 105])
    assert all(0 < one.spread < 0.5 for one in found)


def test_the_same_rows_and_seed_give_the_same_clusters(session: Session) -> None:
    assert clusters(session) == clusters(session)
    assert 3 <= len(clusters(session)) <= 12
    assert len(clusters(session, seed=7)) == len(clusters(session))


def test_a_sample_has_no_more_rows_than_asked_and_a_filter_leaves_rows_out(session: Session) -> None:
    assert sum(one.size for one in clusters(session, sample=40)) == 40
    assert sum(one.size for one in clusters(session)) == 105  # those with text
    [one] = clusters(session, count=1, where=[Article.lang == SUBJECTS[1]])
    assert (one.size, one.share, one.medoid.lang, one.terms) == (30, 1.0, SUBJECTS[1], ())


def test_no_row_gives_no_cluster_one_row_gives_one_and_equal_rows_give_one(articles: sa.Engine) -> None:
    with Session(articles) as session:
        assert clusters(session) == []
        execute(articles, "INSERT INTO article VALUES (7, 'harbour', NULL, 'en'), (8, NULL, NULL, 'en')")
        sync(articles)
        [one] = clusters(session, count=5)
        assert (one.size, one.medoid.id, round(one.spread, 6)) == (1, 7, 0)
        execute(articles, "INSERT INTO article SELECT 100 + i, 'harbour', NULL, 'en' FROM generate_series(1, 50) AS i")
        sync(articles)
        [one] = clusters(session, count=5)
        assert (one.size, one.medoid.id, round(one.spread, 6)) == (51, 7, 0)
        execute(articles, "INSERT INTO article SELECT 500 + i, 'engine', NULL, 'en' FROM generate_series(1, 9) AS i")
        sync(articles)
        assert [(one.size, one.terms) for one in clusters(session, count=5)] == [(51, ("harbour",)), (9, ("engine",))]


def test_a_row_counts_as_the_mean_of_its_chunks_and_once(articles: sa.Engine) -> None:
    axes = np.eye(32, dtype=np.float32)
    chunks = [Chunk(1, "one", axes[0]), Chunk(1, "two", axes[1], ordinal=5), Chunk(2, "three", axes[0] + axes[1])]
    store(articles, [*chunks, Chunk(3, "four", axes[4], ordinal=3), Chunk(4, "five", -axes[4])])
    with Session(articles) as session:
        found = clusters(session, count=3)
    assert [(one.size, one.medoid.id) for one in found] == [(2, 1), (1, 3), (1, 4)]
    assert [one.spread for one in found] == pytest.approx([0, 0, 0], abs=1e-3)


def test_rows_whose_mean_is_zero_are_no_error(articles: sa.Engine) -> None:
    axis = np.eye(32, dtype=np.float32)[0]
    store(articles, [Chunk(1, "one", axis), Chunk(1, "two", -axis, ordinal=5), Chunk(2, "three", axis)])
    with Session(articles) as session:
        assert sorted(one.medoid.id for one in clusters(session, count=2)) == [1, 2]
        assert [one.size for one in clusters(session, count=1)] == [2]


def test_a_role_gets_clusters_of_the_rows_that_it_sees(library: sa.Engine) -> None:
    role = f"reader_{str(library.url.database)[-8:]}"
    execute(library, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    execute(library, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(library, "CREATE POLICY own ON article USING (lang <> 'harbour candle')")
    privileges.follow(library)
    with Session(library) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        found = clusters(session, count=2)
    assert [(one.size, set(one.terms)) for one in found] == [
        (30, set(SUBJECTS[1].split())),
        (15, set(SUBJECTS[2].split())),
    ]
    execute(library, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_without_bm25_clusters_have_no_words(library: sa.Engine) -> None:
    with library.connect() as connection:
        spec = create_index.describe(
            connection, "article", columns=("title",), encoder=EncoderSpec("hashed:32", 32), lexical=None, name="bare"
        )
    create_index.create(library, spec)
    sync(library)
    with Session(library) as session:
        found = search.clusters(session, declare.bind(generation_of(library, "bare").spec), count=3)
    assert [(one.size, one.terms, one.medoid.id // 1000) for one in found] == [(60, (), 0), (30, (), 1), (15, (), 2)]


def test_no_transaction_is_open_while_rows_are_clustered(library: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    opened: list[Session] = []
    clustered = search.k_means.clustered

    def watched(*given: Any, **options: Any) -> list[int]:
        seen.append(any(one.in_transaction() for one in opened))
        return clustered(*given, **options)

    monkeypatch.setattr(search.k_means, "clustered", watched)
    for engine in (library, library.execution_options(isolation_level="REPEATABLE READ")):
        with Session(engine) as made:
            opened[:] = [made]
            clusters(made)
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 0}, "count=0: it must be a whole number, 1 or more"),
        ({"sample": 2.5}, "sample=2.5: it must be a whole number"),
        ({"where": Article.id > 3}, "pass a list of conditions"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(session: Session, given: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.QueryError, match=said):
        clusters(session, **given)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, ["clusters", *map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_the_command_shows_what_the_function_finds(library: sa.Engine, dsn: str) -> None:
    found = json.loads(run("article_semantic", "--clusters", 3, "--json", "--dsn", dsn))
    assert [one["rows"] for one in found] == [60, 30, 15]
    assert set(found[2]["terms"]) == set(SUBJECTS[2].split())
    assert found[0]["medoid"]["headline"].startswith("harbour candle")
    assert list(found[0]["medoid"]["key"]) == ["id"]
    shown = run("article_semantic", "--clusters", 3, "--dsn", dsn)
    assert all(
        word in shown for word in ("headline", "spread", "0.571", "harbour", str(found[0]["medoid"]["key"]["id"]))
    )
    execute(library, "DELETE FROM article")
    sync(library)
    assert "No row has vectors." in run("article_semantic", "--dsn", dsn)
    assert json.loads(run("article_semantic", "--json", "--dsn", dsn)) == []
