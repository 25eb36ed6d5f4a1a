"""BM25 in Postgres against an independent implementation, bm25s, on SciFact with the same analysis."""

from collections.abc import Iterator

import bm25s
import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact
from pg_semantic import Lexical, SemanticIndex, database, search
from tests.conftest import copy_of
from tests.db.library import rows, sync

QUERIES = 100
DEPTH = 50


class Base(orm.DeclarativeBase): ...


class Abstract(Base):
    __tablename__ = "abstract"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]

    semantic = SemanticIndex("title", "text", encoder="hashed:8", chunking=None, lexical=Lexical("english"))


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """The abstracts of SciFact; not written to by any test here."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            session.add_all(
                Abstract(id=int(d["_id"]), title=d["title"], text=d["text"]) for d in scifact.records("corpus")
            )
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


def tokens(engine: sa.Engine, texts: list[str]) -> list[list[str]]:
    """Each text's lexemes as the text search configuration has them, one for each time that it occurs."""
    found: list[list[str]] = [[] for _ in texts]
    statement = (
        "SELECT number, lexeme, cardinality(positions) FROM unnest(CAST(:texts AS text[])) WITH ORDINALITY "
        "AS given (content, number), LATERAL unnest(to_tsvector('english', content))"
    )
    for number, lexeme, count in rows(engine, statement, texts=texts):
        found[number - 1] += [lexeme] * count
    return found


def test_scores_equal_those_of_an_independent_implementation_to_four_decimals(filled: sa.Engine) -> None:
    documents = rows(filled, "SELECT id, title || E'\\n\\n' || text FROM abstract ORDER BY id")
    numbers = {row[0]: place for place, row in enumerate(documents)}
    reference = bm25s.BM25(method="atire", idf_method="lucene", k1=1.2, b=0.75, dtype="float64")
    reference.index(tokens(filled, [text for _, text in documents]), show_progress=False)
    queries = [record["text"] for record in scifact.records("queries")][:QUERIES]
    compared = 0
    with orm.Session(filled) as session:
        for text, asked in zip(queries, tokens(filled, queries), strict=True):
            known = reference.get_scores([token for token in asked if token in reference.vocab_dict])
            best = session.execute(search.lexical(Abstract.semantic, text, limit=DEPTH))
            found = [(row.id, score) for row, score in best]
            assert len(found) == min(DEPTH, np.count_nonzero(known))
            for key, score in found:
                assert score == pytest.approx(known[numbers[key]], abs=5e-5)
            assert found[-1][1] >= np.sort(known)[-DEPTH] - 5e-5
            compared += len(found)
    assert compared > QUERIES * DEPTH * 0.9
