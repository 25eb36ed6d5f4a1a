"""How many statements a search sends, as docs/explanation/ranking-and-recall.md has it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import Searcher, rerankers
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Options, Rerank
from pg_semantic.search.request import Mode
from tests import cross_encoders
from tests.db.library import Article, encoder

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


@contextlib.contextmanager
def sent(engine: sa.Engine) -> Iterator[list[str]]:
    """The statements that are sent within the block."""
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[orm.Session]:
    with orm.Session(many_articles) as made:
        made.connection()  # a driver's first connection asks the server what it is
        yield made


def count(searcher: Searcher, session: orm.Session, **given: Any) -> int:
    with sent(session.connection().engine) as statements:
        searcher.search(session, Article.semantic, given.pop("text", "harbour candle"), **given)
    return len(statements)


@pytest.fixture
def searcher(session: orm.Session) -> Searcher:
    """Has searched a moment ago, in every mode."""
    made = Searcher(encoder())
    made._algorithm.tracker.fresh_seconds = 60.0  # a moment ago, also on a busy machine
    for mode in MODES:
        made.search(session, Article.semantic, "harbour", mode=mode)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_the_first_search_also_reads_which_generation_is_live(session: orm.Session, mode: Mode) -> None:
    searcher = Searcher(encoder())
    assert [count(searcher, session, mode=mode) for _ in range(3)] == [2, 1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_so_does_the_first_after_two_seconds_without_a_search(
    searcher: Searcher, session: orm.Session, mode: Mode
) -> None:
    searcher._algorithm.tracker.fresh_seconds = 0.0
    assert [count(searcher, session, mode=mode) for _ in range(2)] == [2, 2]
    searcher._algorithm.tracker.fresh_seconds = 60.0
    assert count(searcher, session, mode=mode) == 1


def test_a_short_result_is_rerun_in_another_statement(searcher: Searcher, session: orm.Session) -> None:
    rare = [Article.lang == "rare"]  # ten rows
    assert count(searcher, session, where=rare, limit=100) == 2
    assert count(searcher, session, where=rare, limit=100, exact=True) == 1
    assert count(searcher, session, where=rare, limit=100, mode="hybrid") == 2
    assert count(searcher, session, where=rare, limit=100, mode="lexical") == 1


@pytest.mark.parametrize(("mode", "statements"), [("dense", 3), ("lexical", 2), ("hybrid", 3)])
@pytest.mark.parametrize("fresh_seconds", [0.0, 60.0])
def test_an_empty_result_is_rerun_and_the_live_generation_read(
    searcher: Searcher, session: orm.Session, mode: Mode, statements: int, fresh_seconds: float
) -> None:
    searcher._algorithm.tracker.fresh_seconds = fresh_seconds
    assert count(searcher, session, where=[Article.lang == "none"], mode=mode) == statements


def test_reranking_sends_no_statement(searcher: Searcher, session: orm.Session, tmp_path: Path) -> None:
    loaded = rerankers.load(str(cross_encoders.save(tmp_path / "reranker")))
    with BatchingReranker(loaded) as reranker:
        for mode in MODES:
            assert count(searcher, session, mode=mode, options=Options(rerank=Rerank(reranker, depth=20))) == 1
