"""Random passages for training: the same for the same seed, only of rows that conditions allow, and no sorted texts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search.generation_tracker import Target, read_live
from pg_semantic.training import drawn_passages
from tests.db.library import Article, rows

SELECTS = [drawn_passages.of_any_chunks, drawn_passages.one_of_each_row]


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[Session]:
    with Session(many_articles) as opened:
        yield opened


@pytest.fixture
def bound(session: Session) -> BoundIndex[Any]:
    live, _ = read_live(session, Article.semantic)
    return Target(live, live.tables, None).bound(Article.semantic)


@pytest.mark.parametrize("select", SELECTS)
def test_the_seed_decides_which_and_conditions_hold(
    many_articles: sa.Engine, session: Session, bound: BoundIndex[Any], select: Any
) -> None:
    stored = dict(rows(many_articles, "SELECT id::text, content FROM article_semantic"))

    def drawn(count: int = 50, seed: int = 0, where: Any = ()) -> list[tuple[str, str]]:
        found = session.execute(select(bound, count=count, where=where, seed=seed)).all()
        return [(row[0], row[-1]) for row in found]

    first = drawn()
    assert len(dict(first)) == len(first) == 50
    assert all(stored[key] == text for key, text in first)
    assert drawn() == first
    assert drawn(count=20) == first[:20]
    assert dict(drawn(seed=1)).keys() != dict(first).keys()
    rare = {key for (key,) in rows(many_articles, "SELECT id::text FROM article WHERE lang = 'rare'")}
    assert dict(drawn(where=[Article.lang == "rare"])).keys() == rare
    assert 0 < len(rare) < 50


@pytest.mark.parametrize("select", SELECTS)
def test_only_texts_that_are_chosen_are_sorted(session: Session, bound: BoundIndex[Any], select: Any) -> None:
    statement = select(bound, count=5, where=[], seed=0).compile(session.connection())
    plan = session.connection().exec_driver_sql(
        f"EXPLAIN (VERBOSE, FORMAT JSON) {statement}", statement.construct_params()
    )
    sorted_texts = [
        node["Plan Rows"]
        for node in _nodes(plan.scalar_one()[0]["Plan"])
        if node["Node Type"] in {"Sort", "WindowAgg"} and "content" in json.dumps(node["Output"])
    ]
    assert all(count <= 5 for count in sorted_texts)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)
