"""Computes from scratch in Python what a semantic index should contain, and compares it with the stored chunks.

Trusts no receipt, hash or job: each row's text is put together from its columns, chunked, encoded, and compared with
the stored chunks, including vectors.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from pg_semantic import BoundIndex, encoders
from pg_semantic.index import chunking, hashing

_BLANK = " \t\n\r\f\v"
_STORED = {"halfvec": np.float16, "vector": np.float32}

Piece = tuple[str, bytes, bytes]
"""A row's chunks in order. For each: content, hash, and the bytes of the vector, rounded as in storage."""


@dataclass(slots=True)
class Truth:
    """Keys of rows without chunks or receipt, of rows with wrong chunks, and of chunks or receipts without a row."""

    missing: set[Any] = field(default_factory=set)
    stale: set[Any] = field(default_factory=set)
    orphans: set[Any] = field(default_factory=set)
    rows: int = 0
    chunks: int = 0

    @property
    def clean(self) -> bool:
        """Whether no key was found."""
        return not (self.missing or self.stale or self.orphans)


def compare(engine: sa.Engine, index: BoundIndex[Any]) -> Truth:
    """Compares every row of an index whose source has a single key column."""
    tables, spec = index.tables, index.spec
    key = spec.key[0].name
    with engine.connect() as connection:
        source = connection.execute(sa.select(tables.source.c[key], *(tables.source.c[name] for name in spec.columns)))
        texts = {row: _text(columns) for row, *columns in source}
        receipts = set(connection.scalars(sa.select(tables.receipts.c[key])))
        stored = _stored(connection, index)
    expected = _expected(index, texts)
    return Truth(
        missing={row for row, pieces in expected.items() if row not in receipts or (pieces and row not in stored)},
        stale={row for row, pieces in expected.items() if row in stored and stored[row] != pieces},
        orphans=(stored.keys() | receipts) - texts.keys(),
        rows=len(texts),
        chunks=sum(map(len, stored.values())),
    )


def _text(columns: list[str | None]) -> str:
    stripped = ((column or "").strip(_BLANK) for column in columns)
    return "\n\n".join(text for text in stripped if text)


def _stored(connection: sa.Connection, index: BoundIndex[Any]) -> dict[Any, list[Piece]]:
    chunks, key = index.tables.chunks.c, index.spec.key[0].name
    columns = (chunks[key], chunks.content, chunks.content_hash, chunks.vector)
    found: dict[Any, list[Piece]] = {}
    for row, content, digest, vector in connection.execute(sa.select(*columns).order_by(chunks[key], chunks.ordinal)):
        numbers = np.asarray(vector, np.float32).astype(_STORED[index.spec.storage])
        found.setdefault(row, []).append((content, bytes(digest), numbers.tobytes()))
    return found


def _expected(index: BoundIndex[Any], texts: dict[Any, str]) -> dict[Any, list[Piece]]:
    encoder = encoders.load(index.spec.encoder.reference)
    expected: dict[Any, list[Piece]] = {}
    for row, pieces in zip(texts, chunking.chunk(list(texts.values()), index.spec.chunking, encoder), strict=True):
        contents = [piece.content for piece in pieces]
        vectors = encoder.encode_documents(contents).astype(_STORED[index.spec.storage])
        expected[row] = [
            (content, hashing.content_hash(content), vector.tobytes())
            for content, vector in zip(contents, vectors, strict=True)
        ]
    return expected
