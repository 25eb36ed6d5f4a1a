"""Measures the time from nothing to searchable: the worker against its bare encoder, and against a handwritten script.

    make bench-sync

10,000 short rows (tldr pages, then lines of them) and 1,000 long ones (the longest abstracts of SciFact). Timed are:

* the **bare encoder** on the same chunks, all at once: half of them before the worker runs and half after it, since the
  speed of a machine changes;
* the **worker**, from its start until every row is synced and the HNSW index is built: once without BM25, which the
  script doesn't provide either, and once with it;
* a **script** on the same chunks, as a process of its own: `SentenceTransformer.encode` with its defaults, COPY, CREATE
  INDEX.

None of these times includes loading the encoder. ``pipeline_efficiency`` is the worker's chunks per second over the
bare encoder's, and ``efficiency_with_bm25`` the same with BM25. ``ratio_vs_script`` is the script's time over the
worker's without BM25. Memory is the peak of worker processes: with the real encoder, and with the hashed encoder at
10,000 and 100,000 rows.
"""

import argparse
import functools
import gc
import gzip
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus, footprint, scifact, server
from pg_semantic import SemanticIndex, encoders, settings
from pg_semantic.encoders import Encoder
from pg_semantic.index.chunking import Chunking, chunk
from pg_semantic.worker.worker import Worker

SHORT, LONG = 10_000, 1_000


class Vectors(orm.DeclarativeBase):
    """The table with what the script creates too: vectors and their index."""


class Default(orm.DeclarativeBase):
    """The table with all parts of a semantic index."""


class Article(Vectors):
    """A text, short or long."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=scifact.ENCODER, lexical=None)


class Page(Default):
    """A text, short or long, that also has BM25."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=scifact.ENCODER)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Compares the worker with its encoder and with a script.")
    options.add_argument("--share", type=float, default=1.0, help="share of the rows, for a quick run")
    share = options.parse_args().share
    texts = [*_short(int(SHORT * share)), *_long(int(LONG * share))]
    with server.running() as postgres:
        figures = _speeds(postgres, texts) | footprint.measure(postgres, texts, share=share)
    print(json.dumps(figures))


def _short(count: int) -> Iterator[str]:
    lines = itertools.islice(corpus.lines(), 20_000)
    return itertools.islice(dict.fromkeys(itertools.chain(corpus.pages(), lines)), count)


def _long(count: int) -> list[str]:
    with gzip.open(scifact.DATA / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        abstracts = [f"{record['title']}\n\n{record['text']}" for record in map(json.loads, lines)]
    return sorted(abstracts, key=len)[-count:]


def _speeds(postgres: server.Server, texts: Sequence[str]) -> dict[str, object]:
    encoder, counter = (encoders.load(scifact.ENCODER) for _ in range(2))  # which caches the counts
    chunks = [piece.content for pieces in chunk(texts, Chunking(), counter) for piece in pieces]
    del counter
    encoder.encode_documents(chunks[:200])  # warms it up and tunes its token budget
    gc.collect()
    gc.freeze()  # as the command does after it loads an encoder
    bare = _seconds(lambda: encoder.encode_documents(chunks[::2]))
    engine = postgres.create("worker")
    synced = _sync(engine, texts, encoder, of=Article)
    bare += _seconds(lambda: encoder.encode_documents(chunks[1::2]))
    with_bm25 = _sync(postgres.create("with_bm25"), texts, encoder, of=Page)
    script = _script(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    print(
        f"{len(chunks)} chunks: bare encoder {bare:.1f} s, worker {synced:.1f} s, with BM25 {with_bm25:.1f} s, "
        f"script {script:.1f} s"
    )
    return {
        "pipeline_efficiency": round(bare / synced, 3),
        "efficiency_with_bm25": round(bare / with_bm25, 3),
        "ratio_vs_script": round(script / synced, 2),
        "chunks": len(chunks),
        "chunks_per_s": round(len(chunks) / synced, 1),
        "encoder_chunks_per_s": round(len(chunks) / bare, 1),
        "script_chunks_per_s": round(len(chunks) / script, 1),
    }


def _sync(engine: sa.Engine, texts: Sequence[str], encoder: Encoder, *, of: type[Article | Page]) -> float:
    of.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(of), [{"id": number, "text": text} for number, text in enumerate(texts)])
    worker = Worker(engine, settings.load(), load=lambda *_, **__: encoder)
    seconds = _seconds(functools.partial(worker.run, threading.Event(), once=True))
    with engine.connect() as connection:
        index = of.semantic.tables.spec.vector_index_name
        built = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
        if not connection.scalar(sa.text(built), {"name": index}):
            raise RuntimeError("The vector index was not built.")
    engine.dispose()
    return seconds


def _script(dsn: str) -> float:
    command = [sys.executable, "-m", "benchmarks.script", dsn]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
