"""The statistics of terms: counted when enough has changed, and never seen by who may not read the rows' words."""

import math
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import Lexical, SemanticIndex, errors, search
from pg_semantic.operations import create_index, repair, verify
from pg_semantic.settings import Settings
from pg_semantic.worker import create_index_concurrently, term_statistics
from pg_semantic.worker.term_statistics import TermStatistics
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, Article, execute, generation_of, qualified, rows, sync, truth

TABLES = qualified(Article.semantic.tables)


class Base(DeclarativeBase): ...


class Scroll(Base):
    __tablename__ = "scroll"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", lexical=Lexical("simple", k1=0.9, b=0.4))


def scores(engine: sa.Engine, text: str) -> dict[int, float]:
    with Session(engine) as session:
        return {row.id: score for row, score in session.execute(search.lexical(Scroll.semantic, text))}


def test_scores_are_of_the_declared_parameters(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO scroll VALUES (1, 'tea tea the cup'), (2, 'tea'), (3, 'coffee and milk')")
    sync(engine)
    average, idf = (4 + 1 + 3) / 3, math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))

    def weight(frequency: int, length: int) -> float:
        return frequency * 1.9 / (frequency + 0.9 * (0.6 + 0.4 * length / average))

    assert scores(engine, "tea") == pytest.approx({1: idf * weight(2, 4), 2: idf * weight(1, 1)}, rel=1e-6)
    assert scores(engine, "tea tea") == pytest.approx({1: 2 * idf * weight(2, 4), 2: 2 * idf * weight(1, 1)}, rel=1e-6)
    assert scores(engine, "the").keys() == {1}  # `simple` has no stop words


def test_statistics_are_counted_anew_once_enough_rows_have_changed() -> None:
    settings = Settings(statistics_drift=0.1, statistics_seconds=3600)

    def due(rows: int, changed: int, seconds: float | None = 60.0, *, draining: bool = False) -> bool:
        return TermStatistics(rows, changed, seconds).is_due(settings, draining=draining)

    assert due(1_000_000, 1, seconds=None)
    assert due(5_000, 1)
    assert not due(1_000_000, 0, seconds=7200)
    assert not due(1_000_000, 99_999)
    assert due(1_000_000, 100_000)
    assert due(1_000_000, 1, seconds=3601)
    assert not due(1_000_000, 9_999, draining=True)
    assert due(1_000_000, 10_000, draining=True)


def test_edits_inserts_and_deletes_count_as_changes(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO scroll SELECT i, 'tea' FROM generate_series(1, 10) AS i")
    sync(engine)
    generation = generation_of(engine, "scroll_semantic")

    def changed() -> int:
        with engine.connect() as connection:
            return term_statistics.statistics(connection, generation).changed

    assert changed() == 0
    execute(engine, "DELETE FROM scroll WHERE id > 8")
    assert changed() == 2
    sync(engine)
    assert changed() == 0
    assert rows(engine, "SELECT row_count FROM semantic.lexicon") == [(8,)]
    assert rows(engine, "SELECT lexeme, row_count FROM semantic.term") == [("tea", 8)]


def test_terms_that_are_gone_are_forgotten_and_those_of_one_row_not_kept(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO scroll VALUES (1, 'tea cup'), (2, 'tea pot'), (3, 'milk')")
    sync(engine)
    assert rows(engine, "SELECT lexeme, row_count FROM semantic.term") == [("tea", 2)]
    execute(engine, "UPDATE scroll SET text = 'milk' WHERE id = 2")
    sync(engine)
    assert rows(engine, "SELECT lexeme, row_count FROM semantic.term") == [("milk", 2)]


def test_weights_follow_the_average_length_only_where_it_has_moved(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO scroll SELECT i, 'tea cup milk pot' FROM generate_series(1, 30) AS i")
    sync(engine)
    lengths = "SELECT DISTINCT weights_length FROM scroll_semantic_receipt"
    assert rows(engine, lengths) == [(4.0,)]
    execute(engine, "INSERT INTO scroll VALUES (31, 'tea cup milk pot jug')")  # less than a twentieth
    sync(engine)
    assert rows(engine, lengths) == [(4.0,)]
    execute(engine, "INSERT INTO scroll SELECT i, repeat('jug ', 40) FROM generate_series(40, 60) AS i")
    sync(engine)
    [(average, weights)] = rows(engine, "SELECT average_length, weights_length FROM semantic.lexicon")
    assert average == weights == pytest.approx((30 * 4 + 5 + 21 * 40) / 52)
    assert rows(engine, lengths) == [(weights,)]


def test_rows_of_stop_words_alone_leave_a_worker_nothing_to_do(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'the', 'of and', 'en'), (2, ' ', NULL, 'en')")
    assert sync(articles).rows == 2
    assert sync(articles).rows == 0
    assert truth(articles) == CLEAN


def test_a_text_of_more_lexemes_than_fit_is_found_by_its_beginning(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    long = " ".join(f"word{number}" for number in range(150_000))
    execute(engine, "INSERT INTO scroll VALUES (1, :text)", text=long)
    sync(engine)
    assert scores(engine, "word17").keys() == {1}
    assert scores(engine, "word149999") == {}
    [(stored,)] = rows(engine, "SELECT length(lexemes) FROM scroll_semantic_receipt")
    assert 16_000 < stored < 150_000


def test_the_index_on_words_is_built_by_the_worker(articles: sa.Engine) -> None:
    def state() -> create_index_concurrently.State:
        with articles.connect() as connection:
            return create_index_concurrently.state(connection, TABLES.lexical_index)

    assert state() == "missing"
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    assert state() == "ready"


def test_words_that_were_altered_behind_the_workers_back_are_found_and_mended(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one lantern', NULL, 'en'), (2, 'two', NULL, 'en')")
    sync(articles)
    execute(articles, "UPDATE article_semantic_receipt SET lexemes = 'other' WHERE id = 1")
    generation = generation_of(articles)
    assert verify.verify(articles, generation).keys == {"damaged": ["1"]}
    repair.repair(articles, generation)
    assert sync(articles).chunks_encoded == 0
    assert verify.verify(articles, generation).clean


def test_rows_whose_words_are_stemmed_differently_after_an_upgrade_are_found_and_repaired(engine: sa.Engine) -> None:
    execute(engine, "CREATE TEXT SEARCH CONFIGURATION stems (COPY = english)")
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1, 'harbours'), (2, 'tea')")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "note", columns=("words",), encoder=TABLES.spec.encoder, lexical=Lexical("public.stems")
        )
    create_index.create(engine, spec)
    sync(engine)
    by_words = "SELECT id FROM note_semantic_search('harbours', 10, 'lexical')"
    assert rows(engine, by_words) == [(1,)]
    execute(engine, "ALTER TEXT SEARCH CONFIGURATION stems ALTER MAPPING FOR asciiword WITH simple")
    assert rows(engine, by_words) == []  # the words of the query are stemmed in the new way, those of the row are not
    generation = generation_of(engine, "note_semantic")
    assert verify.verify(engine, generation).keys == {"damaged": ["1"]}
    repair.repair(engine, generation)
    assert sync(engine).chunks_encoded == 0
    assert rows(engine, by_words) == [(1,)]
    assert verify.verify(engine, generation).clean


def test_who_may_not_read_the_words_of_rows_sees_none_of_their_statistics(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'secret', NULL, 'en' FROM generate_series(1, 5) AS i")
    sync(articles)
    role = f"stranger_{str(articles.url.database)[-8:]}"
    execute(articles, f"CREATE ROLE {role}")
    try:
        seen = [
            rows_as(articles, role, f"SELECT * FROM semantic.{table}")
            for table in ("readable_term", "readable_lexicon")
        ]
        assert seen == [[], []]
        execute(articles, f"GRANT SELECT ON article, article_semantic, article_semantic_receipt TO {role}")
        assert rows_as(articles, role, "SELECT lexeme, row_count FROM semantic.readable_term") == [("secret", 5)]
        with Session(articles) as session:
            session.execute(sa.text(f"SET LOCAL ROLE {role}"))
            assert len(session.execute(search.lexical(Article.semantic, "secret")).all()) == 5
    finally:
        execute(articles, f"DROP OWNED BY {role}; DROP ROLE {role}")


def rows_as(engine: sa.Engine, role: str, statement: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_an_unknown_text_search_configuration_is_refused_when_the_index_is_made(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "note", columns=("words",), encoder=TABLES.spec.encoder, lexical=Lexical("klingon")
        )
    with pytest.raises(errors.DatabaseError, match=r"klingon.*qualify it with its schema"):
        create_index.create(engine, spec)
    assert rows(engine, "SELECT count(*) FROM semantic.semantic_index") == [(0,)]


def test_an_index_without_words_has_no_column_for_them(engine: sa.Engine) -> None:
    class Own(DeclarativeBase): ...

    class Plain(Own):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        semantic = SemanticIndex("text", encoder="hashed:32", lexical=None)

    Own.metadata.create_all(engine)
    execute(engine, "INSERT INTO plain VALUES (1, 'tea')")
    assert Worker(engine, Settings()).run(threading.Event(), once=True).rows == 1
    names = {
        name
        for (name,) in rows(
            engine, "SELECT attname FROM pg_attribute WHERE attrelid = 'plain_semantic_receipt'::regclass"
        )
    }
    assert names & {"lexemes", "weights", "weights_length"} == set()
