"""Measures the bytes that a row takes in the tables of a semantic index, and the WAL of its backfill and its builds.

    make bench-row-size

The rows are the abstracts of SciFact in pieces of up to 500 characters, encoded by the hashed encoder (384 dimensions:
the encoder makes no difference to the size), with BM25 and a key of eight bytes. The last line is JSON: bytes per row
of each table without its indexes, of the indexes, and of WAL until all rows are synced (``wal_backfill``) and until the
vector index and the lexical index are built (``wal_build``). The table in docs/how-to/scale.md uses these figures.
"""

import json
import textwrap
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import moments, scifact, server, workers
from pg_semantic import SemanticIndex

CHARACTERS = 500
_PATIENCE_SECONDS = 300
_SIZES = """
    SELECT CAST(pg_class.relname AS text), pg_table_size(pg_class.oid)
    FROM pg_class
    WHERE relname IN (:chunks, :receipts)
    UNION ALL
    SELECT CAST(indexes.relname AS text), pg_relation_size(indexes.oid)
    FROM pg_class
    JOIN pg_index ON indrelid = pg_class.oid
    JOIN pg_class AS indexes ON indexes.oid = indexrelid
    WHERE pg_class.relname IN (:chunks, :receipts)
"""
_SYNCED = "SELECT (backfilled_at IS NOT NULL AND NOT EXISTS (SELECT FROM semantic.job))::int FROM semantic.generation"


class Base(orm.DeclarativeBase):
    """The metadata."""


class Piece(Base):
    """A piece of an abstract."""

    __tablename__ = "piece"

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:384")


def pieces() -> Iterator[str]:
    """Yields the pieces of all abstracts."""
    for record in scifact.records("corpus"):
        yield from textwrap.wrap(f"{record['title']} {record['text']}", CHARACTERS)


def measure(postgres: server.Server) -> dict[str, float]:
    """Returns bytes per row."""
    engine = postgres.create("pieces")
    Piece.__table__.create(engine)  # type: ignore[attr-defined]
    texts = list(pieces())
    with engine.begin() as connection:
        connection.execute(sa.insert(Piece), [{"id": number, "text": text} for number, text in enumerate(texts)])
    server.execute(engine, "VACUUM ANALYZE piece")
    Base.metadata.create_all(engine)

    def one(query: str, **binds: object) -> float:
        with engine.connect() as connection:
            return float(connection.scalar(sa.text(query), binds) or 0)

    def lsn() -> float:
        return one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")

    began = lsn()
    with workers.running(engine, engine.url.render_as_string(hide_password=False)):
        moments.until(lambda: bool(one(_SYNCED)), seconds=_PATIENCE_SECONDS)
        synced = lsn()
        moments.until(lambda: one(_built()) == len(_late()), seconds=_PATIENCE_SECONDS)
        built = lsn()
    tables = Piece.semantic.tables
    with engine.connect() as connection:
        binds = {"chunks": tables.chunks.name, "receipts": tables.receipts.name}
        sizes = {str(name): float(size) for name, size in connection.execute(sa.text(_SIZES), binds)}
    total = {**sizes, "wal_backfill": synced - began, "wal_build": built - synced, "text": sum(map(len, texts))}
    engine.dispose()
    return {"rows": len(texts), **{name: round(size / len(texts), 1) for name, size in total.items()}}


def _late() -> list[str]:
    return [str(index.name) for index in Piece.semantic.tables.late_indexes]


def _built() -> str:
    names = ", ".join(f"to_regclass('{name}')" for name in _late())
    return f"SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN ({names})"  # noqa: S608 - our names


def main() -> None:
    """Prints the results, with JSON as the last line."""
    with server.running() as postgres:
        print(json.dumps(measure(postgres)))


if __name__ == "__main__":
    main()
