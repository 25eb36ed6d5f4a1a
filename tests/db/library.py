"""The mapped classes that the database tests share, and small ways to make and look at their rows."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, encoders, jobqueue
from pg_semantic import registry as known_indexes
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import chunk_tables, hashing
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker

ENCODER = "hashed:32"


class Base(DeclarativeBase): ...


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    body: Mapped[str | None]
    lang: Mapped[str] = mapped_column(default="en")

    semantic = SemanticIndex("title", "body", encoder=ENCODER)


def qualified(tables: chunk_tables.Tables) -> chunk_tables.Tables:
    """The same tables as the registry knows them, with their schema: a worker's search path has none of yours."""
    return chunk_tables.build(dataclasses.replace(tables.spec, schema="public"))


def sync(engine: sa.Engine, load: Callable[..., Encoder] = encoders.load, **settings: Any) -> Progress:
    """Runs a worker until no job waits."""
    return Worker(engine, Settings(**settings), load=load).run(threading.Event(), once=True)


def encoder() -> Encoder:
    """The encoder of `Article`."""
    return encoders.load(ENCODER)


class CountingEncoder(HashedEncoder):
    """The encoder of `Article`, which counts how often it encodes each query."""

    def __init__(self) -> None:
        super().__init__(32)
        self.encoded: Counter[str] = Counter()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.encoded.update(texts)
        return super().encode_queries(texts)


class ForgetfulEncoder(HashedEncoder):
    """The encoder of `Article`, which knows no word of some queries: their vectors are zero."""

    def __init__(self, *unknown: str) -> None:
        super().__init__(32)
        self.unknown = unknown

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        vectors = super().encode_queries(texts)
        vectors[[text in self.unknown for text in texts]] = 0
        return vectors


def execute(engine: sa.Engine, statement: str, **binds: Any) -> None:
    """Plain SQL, as an application or a person at psql would send it."""
    with engine.begin() as connection:
        connection.execute(sa.text(statement), binds)


def wait_for_locks(engine: sa.Engine, *, seconds: float) -> None:
    """Sets how long DDL of ours waits for tables that others use, for the connections to come."""
    with engine.begin() as connection:
        name = connection.scalar(sa.select(sa.func.current_database()))
        connection.execute(sa.text(f'ALTER DATABASE "{name}" SET semantic.lock_seconds = {seconds}'))
    engine.dispose()


def rows(engine: sa.Engine, statement: str, **binds: Any) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), binds)]


def read_of(connection: sa.Connection, table: str) -> int:
    """Rows of a table that the connection's server process has read of late, whether by an index or not."""
    counts = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = :table"
    return int(connection.scalar(sa.text(counts), {"table": table}) or 0)


def jobs(engine: sa.Engine) -> set[str]:
    """Keys of rows that are marked or have a job."""
    return {key for (key,) in rows(engine, "SELECT key FROM semantic.mark UNION SELECT key FROM semantic.job")}


def fold(engine: sa.Engine) -> None:
    """Makes jobs of all marks, as a worker does before it claims."""
    with engine.begin() as connection:
        for generation in known_indexes.generations(connection):
            for priority in (jobqueue.EDIT, jobqueue.BACKFILL):
                jobqueue.fold(connection, generation.id, priority=priority)


@dataclass(frozen=True)
class Truth:
    """How the stored chunks compare with what the current text asks for."""

    missing: set[str]
    stale: set[str]
    orphans: int


def truth(engine: sa.Engine, tables: chunk_tables.Tables = Article.semantic.tables) -> Truth:
    """Compares every row's text with its chunks, in Python and from scratch: no receipt and no job is trusted."""
    key = tables.spec.key[0].name
    with engine.connect() as connection:
        texts: dict[Any, str] = dict(
            connection.execute(sa.select(tables.source.c[key], chunk_tables.text_of(tables.spec, tables.source))).all()
        )
        stored: dict[Any, list[bytes]] = {}
        chunks = tables.chunks.c
        for row_key, digest in connection.execute(
            sa.select(chunks[key], chunks.content_hash).order_by(chunks[key], chunks.ordinal)
        ):
            stored.setdefault(row_key, []).append(bytes(digest))
    expected = {row: [hashing.content_hash(text.strip())] if text.strip() else [] for row, text in texts.items()}
    return Truth(
        missing={str(row) for row, digests in expected.items() if digests and row not in stored},
        stale={str(row) for row, digests in expected.items() if row in stored and stored[row] != digests},
        orphans=len(stored.keys() - texts.keys()),
    )


CLEAN = Truth(missing=set(), stale=set(), orphans=0)


def generation_of(engine: sa.Engine, name: str = "article_semantic") -> Generation:
    """The live generation of an index."""
    with engine.connect() as connection:
        return known_indexes.find(connection, name)
