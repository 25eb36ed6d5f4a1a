"""Compares BM25 in stock Postgres with its own ts_rank_cd, on 16 shuffled copies of the SciFact abstracts.

    make bench-bm25

A worker with the hashed encoder syncs 82,928 documents. The queries are the claims of SciFact. Each is answered by
`search.lexical`, and by a statement that ranks the same candidates with ``ts_rank_cd``. Both return ten rows, and they
alternate so that both run under the same load. ``ratio_vs_ts_rank_cd`` is the ratio of their medians.
``candidates_p50`` is the median number of rows that contain a word of the query.
"""

import argparse
import json
import random
import threading
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import moments, scifact, server
from pg_semantic import SemanticIndex, search, settings
from pg_semantic.index import bm25_expressions
from pg_semantic.worker.worker import Worker

COPIES, QUERIES, LIMIT = 16, 100, 10


class Base(orm.DeclarativeBase):
    """The tables of this benchmark."""


class Abstract(Base):
    """An abstract, or a copy with its words shuffled."""

    __tablename__ = "abstract"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:8", chunking=None)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Compares BM25 with ts_rank_cd.")
    options.add_argument("--copies", type=int, default=COPIES, help="number of copies of the abstracts")
    copies = options.parse_args().copies
    with server.running() as postgres:
        engine = postgres.create("bm25")
        _fill(engine, copies)
        figures = _measure(engine)
        engine.dispose()
    print(json.dumps(figures))


def _fill(engine: sa.Engine, copies: int) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "text": text} for number, text in enumerate(_texts(copies))]
        connection.execute(sa.insert(Abstract), rows)
    worker = Worker(engine, settings.load())
    seconds = moments.taken(lambda: worker.run(threading.Event(), once=True))
    server.execute(engine, "VACUUM ANALYZE")
    print(f"{len(rows)} documents synced and indexed in {seconds:.0f} s")


def _texts(copies: int) -> Iterator[str]:
    shuffle = random.Random(1).shuffle  # noqa: S311 - the same texts in every run
    abstracts = [f"{record['title']} {record['text']}" for record in scifact.records("corpus")]
    yield from abstracts
    for _ in range(copies - 1):
        for abstract in abstracts:
            words = abstract.split()
            shuffle(words)
            yield " ".join(words)


def _measure(engine: sa.Engine) -> dict[str, float]:
    ours, theirs, candidates = [], [], []
    queries = [record["text"] for record in scifact.records("queries")][:QUERIES]
    with orm.Session(engine) as session:
        for text in queries:
            best = search.lexical(Abstract.semantic, text, limit=LIMIT)
            ranked = _ts_rank_cd(text)
            candidates.append(session.scalar(_candidates(text)) or 0)  # also warms the cache for both
            ours.append(moments.taken(lambda best=best: session.execute(best).all()))  # type: ignore[misc]
            theirs.append(moments.taken(lambda ranked=ranked: session.execute(ranked).all()))  # type: ignore[misc]
    p50, other = moments.quantile(ours, 0.5), moments.quantile(theirs, 0.5)
    print(f"BM25 {p50 * 1000:.1f} ms, ts_rank_cd {other * 1000:.1f} ms, medians of {len(queries)} queries")
    return {
        "p50_ms": round(p50 * 1000, 2),
        "p99_ms": round(moments.quantile(ours, 0.99) * 1000, 2),
        "candidates_p50": int(moments.quantile(candidates, 0.5)),
        "ratio_vs_ts_rank_cd": round(p50 / other, 3),
        "ts_rank_cd_p50_ms": round(other * 1000, 2),
    }


def _asked(text: str) -> sa.CTE:
    lexical = Abstract.semantic.spec.lexical
    if lexical is None:
        raise RuntimeError("The index has no BM25 (lexical=None).")
    return bm25_expressions.query(Abstract.semantic.tables, lexical, sa.literal(text), match="any")


def _candidates(text: str) -> "sa.Select[int]":
    matching = bm25_expressions.matches(Abstract.semantic.tables.receipts.c.lexemes, _asked(text))
    return sa.select(sa.func.count()).where(matching)


def _ts_rank_cd(text: str) -> "sa.Select[Abstract, float]":
    receipts, asked = Abstract.semantic.tables.receipts.c, _asked(text)
    matching = sa.select(asked.c.matching).scalar_subquery()
    score = sa.func.ts_rank_cd(receipts.lexemes, matching, type_=sa.Float).label("score")
    matches = (
        sa.select(receipts.id, score)
        .where(bm25_expressions.matches(receipts.lexemes, asked))
        .order_by(score.desc(), receipts.id)
        .subquery()
    )
    return (
        sa.select(Abstract, matches.c.score)
        .join(matches, matches.c.id == Abstract.id)
        .order_by(matches.c.score.desc(), matches.c.id)
        .limit(LIMIT)
    )


if __name__ == "__main__":
    main()
