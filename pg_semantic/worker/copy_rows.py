"""The chunks and receipts of rows as records of a binary COPY.

They are made before the transaction that writes them begins, so that it is short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from pg_semantic import database
from pg_semantic.database import transaction
from pg_semantic.index import bm25_expressions, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec, Lexical, Storage
from pg_semantic.worker.batch import Batch, BatchRow
from pg_semantic.worker.prefixes import Basis

Record: TypeAlias = tuple[Any, ...]

_FEWEST_NEW = 16  # rows, from which on a COPY of their receipts saves more than it costs

_FLOAT: dict[Storage, str] = {"halfvec": ">f2", "vector": ">f4"}
_CHUNK = {
    "ordinal": "int4",
    "content": "text",
    "vector": "bytea",
    "content_hash": "bytea",
    "encoder_id": "int8",
    "token_count": "int4",
    "truncated": "bool",
}
_PREFIX = {"prefix": "bytea"}
_RECEIPT = {"source_hash": "bytea", "chunk_count": "int4", "truncated": "bool"}
_BM25 = {"lexemes": "bytea", "weights": "bytea", "weights_length": "float8"}


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some rows, by the keys of their jobs.

    Attributes:
        spec: The semantic index.
        chunks: The new chunks of each row.
        receipts: The receipts of new rows, unless these are few.
        weights_length: The average length that the BM25 weights of ``receipts`` were computed with.
        has_prefixes: Whether the chunks have prefixes.
    """

    spec: IndexSpec
    chunks: dict[str, list[Record]]
    receipts: dict[str, Record]
    weights_length: float | None
    has_prefixes: bool = False

    def copy_chunks(self, connection: sa.Connection, table: str, rows: Sequence[BatchRow]) -> None:
        """COPYs the new chunks of some of the rows. ``table`` is quoted, and no view: COPY doesn't accept one."""
        columns = _CHUNK | _PREFIX if self.has_prefixes else _CHUNK
        self._copy(connection, table, columns, records=[one for row in rows for one in self.chunks[row.job.key]])

    def copy_receipts(self, connection: sa.Connection, table: str, rows: Sequence[BatchRow]) -> None:
        """COPYs the receipts of some of the rows, which have none yet."""
        columns = _RECEIPT if self.weights_length is None else _RECEIPT | _BM25
        self._copy(connection, table, columns, records=[self.receipts[row.job.key] for row in rows])

    def _copy(
        self, connection: sa.Connection, table: str, columns: Mapping[str, str], *, records: Sequence[Record]
    ) -> None:
        """COPYs records. Keys and vectors are sent as the bytes that the receive functions of their types read."""
        if not records:
            return
        names = [column.name for column in self.spec.key] + list(columns)
        target = f"{table} ({', '.join(database.qualified_name(None, name) for name in names)})"
        driver: Any = connection.connection.driver_connection
        statement = f"COPY {target} FROM STDIN (FORMAT binary)"
        try:
            with driver.cursor().copy(statement) as copy:
                copy.set_types([*["bytea"] * len(self.spec.key), *columns.values()])
                for record in records:
                    copy.write_row(record)
        except psycopg.Error as error:
            raise exc.DBAPIError(statement, None, error) from error


def make(engine: sa.Engine, batch: Batch, rows: Sequence[BatchRow], *, basis: Basis | None = None) -> Records:
    """Makes the records of rows. With BM25, the server computes the lexemes and weights of new rows in a transaction.

    Args:
        engine: The worker's engine.
        batch: The batch, encoded.
        rows: Rows of the batch.
        basis: The basis of the generation's prefixes; None while there is none, or if it needs none.

    Raises:
        sqlalchemy.exc.DBAPIError: The server rejects a text.
    """
    new = [row for row in rows if row.is_new]
    if len(new) < _FEWEST_NEW:
        new = []
    lexical, length = _lexemes_and_weights(engine, batch.tables, new)
    receipts = {
        row.job.key: (*row.identity, row.source_hash, row.chunk_count, row.truncated, *said)
        for row, said in zip(new, lexical, strict=True)
    }
    return Records(batch.tables.spec, _chunks(batch, rows, basis), receipts, length, basis is not None)


def _chunks(batch: Batch, rows: Sequence[BatchRow], basis: Basis | None) -> dict[str, list[Record]]:
    spec = batch.tables.spec
    vectors = [batch.vectors[chunk.content_hash] for row in rows for _, chunk in row.new]
    wire = iter(to_wire(vectors, spec.storage))
    prefixes = iter(_prefixes(vectors, spec.storage, basis))
    return {
        row.job.key: [
            (
                *row.identity,
                ordinal,
                chunk.content,
                next(wire),
                chunk.content_hash,
                spec.encoder.id,
                chunk.token_count,
                chunk.truncated,
                *next(prefixes),
            )
            for ordinal, chunk in row.new
        ]
        for row in rows
    }


def _prefixes(vectors: Sequence[Any], storage: Storage, basis: Basis | None) -> list[tuple[bytes, ...]]:
    """Returns the columns of prefixes: of the vectors as they are stored, so that they can be computed again."""
    if basis is None or not vectors:
        return [()] * len(vectors)
    stored = np.asarray(vectors, np.float32).astype(_FLOAT[storage]).astype(np.float32)
    return [(one,) for one in to_wire(basis.prefixes(stored), "halfvec")]


def to_wire(vectors: Sequence[Any] | NDArray[Any], storage: Storage) -> list[bytes]:
    """Converts vectors to pgvector's binary format.

    Returns:
        The bytes of each vector: its dimensions and a zero as 16-bit integers, then the numbers, all big-endian.
    """
    if not len(vectors):
        return []
    numbers = np.asarray(vectors, np.float32).astype(_FLOAT[storage])
    header = int(numbers.shape[1]).to_bytes(2) + b"\0\0"
    return [header + row.tobytes() for row in numbers]


def _lexemes_and_weights(
    engine: sa.Engine, tables: Tables, rows: Sequence[BatchRow]
) -> tuple[Sequence[Record], float | None]:
    """Returns the BM25 columns of each receipt, and the average length that the weights were computed with."""
    lexical = tables.spec.lexical
    if lexical is None or not rows:
        return [()] * len(rows), None
    with transaction.begin(engine) as connection:
        length = connection.scalars(sa.select(bm25_expressions.weights_length(tables))).one()
        found = connection.execute(_computed(lexical, [row.text for row in rows], length)).all()
    return [(*one, length) for one in found], length


def _computed(lexical: Lexical, texts: Sequence[str], length: float) -> "sa.Select[bytes, bytes]":
    """Selects the lexemes and weights of texts, in their order, as the bytes of a binary COPY."""
    given = sa.bindparam(None, list(texts), type_=postgresql.ARRAY(sa.Text))
    text = sa.func.unnest(given).table_valued(sa.column("text", sa.Text), with_ordinality="number").render_derived()
    lexemes = lexemes_of(lexical, text.c.text, text)
    weights = bm25_expressions.weights(lexical, lexemes.c.lexemes, sa.cast(length, sa.Double))
    return (
        sa.select(keys.sent(lexemes.c.lexemes), keys.sent(weights))
        .select_from(text)
        .join(lexemes, sa.true())
        .order_by(text.c.number)
    )


def lexemes_of(lexical: Lexical, text: sa.ColumnElement[str], of: sa.FromClause) -> sa.FromClause:
    """Selects the lexemes of each text once: OFFSET keeps the planner from repeating their expression at each use."""
    lexemes = bm25_expressions.lexemes(lexical, text).label("lexemes")
    return sa.select(lexemes).correlate(of).offset(0).lateral()
