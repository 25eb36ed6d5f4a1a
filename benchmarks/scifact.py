"""Measures relevance on SciFact (5,183 abstracts, 300 test claims): nDCG@10, end to end.

    make bench-scifact

Loads the corpus into an embedded Postgres through the ORM, syncs it with the real all-MiniLM-L6-v2, sends every claim
through `Searcher`, and scores the results with ir-measures.

The published result, .6451, uses one vector per abstract, truncated at the encoder's 256 tokens. That is ``dense``, by
exact search. ``bm25``, ``rrf`` and ``convex`` are lexical and hybrid searches with the package's defaults. ``chunked``
is what the default recipe gives, which truncates no text.
"""

import csv
import functools
import gzip
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ir_measures
import sqlalchemy as sa
from ir_measures import Qrel, ScoredDoc, nDCG
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from pg_semantic import BoundIndex, Searcher, SemanticIndex, database, encoders, settings
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.search import Convex, Options
from pg_semantic.worker.worker import Worker

DATA = Path(__file__).parent / "data" / "scifact"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEPTH = 10


class Base(orm.DeclarativeBase):
    """The tables of this benchmark."""


class Abstract(Base):
    """An abstract of SciFact, indexed whole and in chunks."""

    __tablename__ = "abstract"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]

    whole = SemanticIndex("title", "text", encoder=ENCODER, chunking=None)
    chunked = SemanticIndex("title", "text", encoder=ENCODER)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            result = _measure(engine)
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _measure(engine: sa.Engine) -> dict[str, float]:
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(Abstract(id=d["_id"], title=d["title"], text=d["text"]) for d in records("corpus"))
        session.commit()
    started = time.monotonic()
    with progress.bar(engine, shown=True) as advance:
        done = Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    seconds = time.monotonic() - started
    print(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded in {seconds:.0f} s")
    searcher = Searcher(encoders.load(ENCODER))
    ndcg = functools.partial(_ndcg, engine, searcher)
    return {
        "dense": ndcg(Abstract.whole, exact=True),
        "dense_hnsw": ndcg(Abstract.whole),
        "bm25": ndcg(Abstract.whole, mode="lexical"),
        "rrf": ndcg(Abstract.whole, mode="hybrid"),
        "convex": ndcg(Abstract.whole, mode="hybrid", options=Options(fusion=Convex())),
        "chunked": ndcg(Abstract.chunked, exact=True),
        "chunked_hnsw": ndcg(Abstract.chunked),
        "chunked_rrf": ndcg(Abstract.chunked, mode="hybrid"),
        "chunks_per_s": round(done.chunks_encoded / seconds, 1),
    }


def _ndcg(engine: sa.Engine, searcher: Searcher, index: BoundIndex[Abstract], **how: Any) -> float:  # noqa: ANN401
    judgements = list(_judgements())
    judged = {judgement.query_id for judgement in judgements}
    run = []
    with orm.Session(engine) as session:
        for query in records("queries"):
            if query["_id"] in judged:
                hits = searcher.search(session, index, query["text"], limit=DEPTH, **how)
                run += [ScoredDoc(query["_id"], hit.entity.id, hit.score) for hit in hits]
    score = ir_measures.calc_aggregate([nDCG @ DEPTH], judgements, run)[nDCG @ DEPTH]
    print(f"{index.name} {how}: nDCG@{DEPTH} {score:.4f}")
    return round(float(score), 4)


def records(name: str) -> Iterator[dict[str, Any]]:
    """Yields the records of a SciFact file: ``corpus`` or ``queries``."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _judgements() -> Iterator[Qrel]:
    with (DATA / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            yield Qrel(row["query-id"], row["corpus-id"], int(row["score"]))


if __name__ == "__main__":
    main()
