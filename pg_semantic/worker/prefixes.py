"""Prefixes of rotated vectors: computes the basis of a generation once, and gives every chunk its prefix.

Chunks that are written before there is a basis have none yet. `fill` adds it page by page. Storing the basis waits for
those who are writing chunks, and those who write later find it, so no chunk without a prefix comes after it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql

from pg_semantic import registry, sql
from pg_semantic.database import transaction
from pg_semantic.index import distances, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.recall import random_chunks
from pg_semantic.registry import Generation

Vector: TypeAlias = NDArray[np.float32]

log = logging.getLogger("pg_semantic.worker")

SAMPLE = 10_000  # vectors that a basis is computed from, unless the table has fewer
_PAGE_CHUNKS = 1_000
_NEAR_ZERO = np.float16(2**-14)
_TIMEOUT = "10min"  # to pick the sample, which reads all keys


@dataclass(frozen=True, slots=True)
class Basis:
    """The first axes of a rotation.

    Attributes:
        axes: One axis per row, ``(prefix, dimensions)``, float32. They are orthonormal.
    """

    axes: NDArray[np.float32]

    @classmethod
    def of_vectors(cls, vectors: NDArray[np.float32], prefix: int) -> "Basis":
        """Computes the principal axes of vectors, without subtracting their mean: a rotation keeps every cosine.

        Args:
            vectors: One per row. Each counts as if its length were 1.
            prefix: How many axes to return: those along which the vectors are longest.
        """
        wide = vectors.astype(np.float64)
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        _, axes = np.linalg.eigh(unit.T @ unit)  # the axis with the largest eigenvalue comes last
        return cls(np.ascontiguousarray(axes[:, ::-1][:, :prefix].T, dtype=np.float32))

    def prefixes(self, vectors: NDArray[Any]) -> NDArray[np.float16]:
        """Returns the prefixes of vectors of any length, one per row, float16.

        They are those of vectors of length 1, so no number is too large. A prefix is never all zeros, which the vector
        index would leave out.
        """
        given = np.asarray(vectors, np.float32)
        unit: Vector = given / np.linalg.norm(given, axis=1, keepdims=True)
        found: NDArray[np.float16] = (unit @ self.axes.T).astype(np.float16)
        found[~found.any(axis=1), 0] = _NEAR_ZERO
        return found


def read(connection: sa.Connection, generation_id: int) -> Basis | None:
    """Returns the basis of a generation; None if it has none yet, or needs none."""
    rows = connection.scalars(sql.statement("vector_index", "basis"), {"generation": generation_id}).all()
    return Basis(np.array([numbers(row) for row in rows], np.float32)) if rows else None


def learn(engine: sa.Engine, generation: Generation) -> None:
    """Computes and stores the basis of a generation, unless it has one or no vectors.

    Raises:
        sqlalchemy.exc.DBAPIError: Among others, the chunk table stays locked.
    """
    prefix = generation.spec.prefix
    if prefix is None:
        return
    with transaction.begin(engine, statement_timeout=_TIMEOUT) as connection:
        if read(connection, generation.id) is not None:
            return
        sampled = _sampled(connection, generation)
        sample = random_chunks.picked(sampled, sample=SAMPLE, seed=0).subquery()
        found = connection.scalars(sa.select(sa.cast(sample.c.vector, sa.Text))).all()
    if not found:
        return
    basis = Basis.of_vectors(np.array([numbers(one) for one in found], np.float32), prefix)
    given = {
        "generation": generation.id,
        "numbers": basis.axes.ravel().tolist(),
        "dimensions": generation.spec.encoder.dimensions,
        "sample": len(found),
    }
    with transaction.begin(engine) as connection:
        is_new = connection.scalar(sql.statement("vector_index", "store_basis"), given)
    if is_new:
        said = "%s: computed the basis of its prefixes from %s vectors"
        log.info(said, generation.title, len(found), extra={"event": "basis_made", "index": generation.title})


def are_due(connection: sa.Connection, generation_id: int, tables: Tables) -> bool:
    """Returns whether the chunks that this transaction writes must have prefixes: there is a basis.

    Locks the chunk table as a write does, so that none is stored until the transaction ends.
    """
    if tables.spec.prefix is None:
        return False
    connection.execute(sa.delete(tables.chunks).where(sa.false()))
    return _state(connection, generation_id) is not None


def are_filled(connection: sa.Connection, generation_id: int) -> bool:
    """Returns whether every chunk of a generation got its prefix, so that searches use the index on them."""
    return _state(connection, generation_id) == "filled"


def is_learnable(connection: sa.Connection, generation: Generation) -> bool:
    """Returns whether a generation lacks a basis and there are as many vectors as one is computed from."""
    if generation.spec.prefix is None or _state(connection, generation.id) is not None:
        return False
    return _has_sample(connection, _sampled(connection, generation))


def _sampled(connection: sa.Connection, generation: Generation) -> Tables:
    """Returns the tables to take the sample from: those of a complete copy with vectors of the same encoder, if any.

    The first chunks of a new copy are those of the first keys, whose texts may differ from the others.
    """
    if generation.document_fingerprint is not None:
        for other in registry.copies(connection, generation.qualified_name):
            same = other.document_fingerprint == generation.document_fingerprint and other.id != generation.id
            if same and other.backfilled and not other.gone and _has_sample(connection, other.tables):
                return other.tables
    return generation.tables


def _has_sample(connection: sa.Connection, tables: Tables) -> bool:
    some = sa.select(sa.literal(1)).select_from(tables.chunks).limit(SAMPLE).subquery()
    return (connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0) >= SAMPLE


def fill(engine: sa.Engine, generation: Generation, *, is_closing: Callable[[], bool] = lambda: False) -> bool:
    """Gives every chunk its prefix, page by page, with a basis that is computed first if there is none.

    Args:
        engine: The worker's engine.
        generation: The generation. Nothing happens unless its index is on prefixes.
        is_closing: Whether to end early.

    Returns:
        Whether every chunk has its prefix now.
    """
    if generation.spec.prefix is None:
        return True
    learn(engine, generation)
    with transaction.begin(engine) as connection:
        state, basis = _state(connection, generation.id), read(connection, generation.id)
    if state == "filled":
        return True
    after: str | None = None
    while basis is not None and not is_closing():
        after = _fill_page(engine, generation.tables, basis, after=after)
        if after is None:
            return _finish(engine, generation)
    return False


def _fill_page(engine: sa.Engine, tables: Tables, basis: Basis, *, after: str | None) -> str | None:
    """Fills the chunks of a page that lack a prefix and aren't locked. Returns the last chunk of the page, if any."""
    place = _place(tables)
    with transaction.begin(engine) as connection:
        page = (
            sa.select(keys.as_text(place), sa.cast(tables.chunks.c.vector, sa.Text))
            .where(tables.chunks.c.prefix.is_(None), KeyRange(after, None).of(place))
            .order_by(*place)
            .limit(_PAGE_CHUNKS)
            .with_for_update(key_share=True, skip_locked=True)
        )
        found = connection.execute(page).all()
        if found:
            write(connection, tables, basis, chunks=[(name, numbers(vector)) for name, vector in found])
    return found[-1][0] if found else None


def write(connection: sa.Connection, tables: Tables, basis: Basis, *, chunks: Sequence[tuple[str, Vector]]) -> None:
    """Writes the prefixes of chunks, given as the text of their keys and ordinals, with their vectors."""
    prefixes = basis.prefixes(np.array([vector for _, vector in chunks]))
    texts = [distances.vector_literal(one.tolist(), "[]") for one in prefixes]
    place = _place(tables)
    given = sa.bindparam(None, texts, type_=postgresql.ARRAY(sa.Text))
    wanted = keys.key_table([name for name, _ in chunks], len(place), prefix=given)
    kind = tables.chunks.c.prefix.type
    connection.execute(sql.statement("registry", "find_pgvector"))
    connection.execute(
        sa.update(tables.chunks)
        .values(prefix=sa.cast(wanted.c.prefix, kind))
        .where(keys.matches_key_table(wanted, place))
    )


def _finish(engine: sa.Engine, generation: Generation) -> bool:
    """Records that all chunks have a prefix, unless some don't: those that were locked."""
    with transaction.begin(engine, statement_timeout=_TIMEOUT) as connection:
        lacking = sa.exists().select_from(generation.tables.chunks).where(generation.tables.chunks.c.prefix.is_(None))
        if connection.scalar(sa.select(lacking)):
            return False
        connection.execute(sql.statement("vector_index", "basis_filled"), {"generation": generation.id})
    return True


def _state(connection: sa.Connection, generation_id: int) -> str | None:
    """Returns ``filled`` if all chunks of a generation have a prefix, ``made`` if only the basis is there, or None."""
    state: str | None = connection.scalar(sql.statement("vector_index", "basis_state"), {"generation": generation_id})
    return state


def _place(tables: Tables) -> list[sa.Column[Any]]:
    return [*tables.chunk_key, tables.chunks.c.ordinal]


def numbers(literal: str) -> Vector:
    """Reads a vector that was selected as text."""
    return np.fromstring(literal[1:-1], np.float32, sep=",")
