"""The read stage: turns claimed jobs into rows with chunks, and reuses stored vectors of equal texts.

Uses two short transactions and chunks the texts in between, so that none is open while a long text is divided.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from pg_semantic.database import transaction
from pg_semantic.index import chunking, hashing
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.chunking import TextChunk, TokenCounter
from pg_semantic.jobqueue import Claim
from pg_semantic.worker import chunk_diff, failure_isolation, read_changed_texts, stored_chunks
from pg_semantic.worker.batch import Batch, BatchRow
from pg_semantic.worker.chunk_diff import StoredChunk
from pg_semantic.worker.read_changed_texts import Changed, ReadLimits


def read(
    engine: sa.Engine,
    tables: Tables,
    claim: Claim,
    *,
    counter: TokenCounter,
    room: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
    sisters: Sequence[Tables] = (),
) -> Batch:
    """Runs `look`, then `cut`."""
    batch, rows = look(engine, tables, claim, room=room)
    cut(engine, batch, rows, counter=counter, sisters=sisters)
    return batch


def look(engine: sa.Engine, tables: Tables, claim: Claim, *, room: ReadLimits) -> tuple[Batch, list[Changed]]:
    """Reads the claimed rows that fit in a batch.

    Returns:
        The batch, still without rows, and the changed rows to pass to `cut`. The keys of rows without room are in
        ``later`` and ``long`` of the batch.
    """
    batch = Batch(tables, claim, [])
    found = read_changed_texts.read(engine, tables, claim.jobs, room=room, blame=batch.blame)
    batch.later, batch.long = sorted(found.later), sorted(found.long)
    left = found.later | found.long
    batch.claim = dataclasses.replace(claim, jobs=tuple(job for job in claim.jobs if job.key not in left))
    batch.characters = sum(row.characters for row in found.rows)
    return batch, found.rows


def cut(
    engine: sa.Engine,
    batch: Batch,
    changes: Sequence[Changed],
    *,
    counter: TokenCounter,
    sisters: Sequence[Tables] = (),
) -> None:
    """Divides the texts into chunks, compares them with the stored chunks, and adds the rows to the batch.

    Args:
        engine: The worker's engine.
        batch: The batch from `look`.
        changes: The changed rows from `look`.
        counter: Counts tokens as the encoder does.
        sisters: Tables of generations with the same document vectors, which are reused.
    """
    if not changes:
        return
    chunked = list(zip(changes, _chunked(changes, batch.tables, counter), strict=True))
    batch.uncut = {row.job.key: chunks for row, chunks in chunked if isinstance(chunks, str)}
    compare = functools.partial(_compared, engine, (batch.tables, *sisters))
    for rows, vectors in failure_isolation.halving(
        chunked, compare, blame=lambda one, error: batch.blame(one[0].job, error)
    ):
        batch.rows += rows
        batch.vectors |= vectors


def _chunked(rows: Sequence[Changed], tables: Tables, counter: TokenCounter) -> Sequence[Sequence[TextChunk] | str]:
    """Returns the chunks of each row, or why it cannot be chunked. On failure, chunks each row by itself."""
    try:
        return chunking.chunk([row.text for row in rows], tables.spec.chunking, counter)
    except BaseException as error:  # whatever a tokenizer raises, the other rows continue
        if not failure_isolation.is_caused_by_data(error):
            raise
        if len(rows) == 1:
            return [f"{type(error).__name__}: {error}"]
        return [chunks for row in rows for chunks in _chunked([row], tables, counter)]


def _compared(
    engine: sa.Engine, known: Sequence[Tables], chunked: Sequence[tuple[Changed, Sequence[TextChunk] | str]]
) -> tuple[list[BatchRow], dict[bytes, NDArray[np.float32]]]:
    """Returns the rows with their new chunks, and the vectors that are already known for these.

    The rows belong to the first tables in ``known``; vectors are looked up in all of them.
    """
    tables = known[0]
    synced = [row.job.key for row, _ in chunked if row.synced]
    with transaction.begin(engine, by_index=True) as connection:
        before = stored_chunks.read(connection, tables, synced) if synced else {}
        rows = [_placed(row, chunks, before.get(row.job.key, ())) for row, chunks in chunked]
        missing = {chunk.content_hash for row in rows for _, chunk in row.new}
        vectors: dict[bytes, NDArray[np.float32]] = {}
        for place in known:
            vectors |= _reusable(connection, place, sorted(missing - vectors.keys()))
    return rows, vectors


def _placed(row: Changed, chunks: Sequence[TextChunk] | str, before: Sequence[StoredChunk]) -> BatchRow:
    if isinstance(chunks, str):
        return BatchRow(row.job, row.identity, row.text, row.source_hash, (), (), truncated=False)
    new, ordinals = chunk_diff.diff(chunks, before)
    kept = tuple([known for known in before if known.ordinal in ordinals])
    truncated, is_new = any(chunk.truncated for chunk in chunks), not row.synced
    return BatchRow(row.job, row.identity, row.text, row.source_hash, new, kept, truncated=truncated, is_new=is_new)


def _reusable(connection: sa.Connection, tables: Tables, hashes: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """Returns the stored vectors of the same texts, of whatever row."""
    if not hashes:
        return {}
    every, size = sa.literal(b"".join(hashes), sa.LargeBinary), hashing.HASH_BYTES  # an array takes longer to send
    start = sa.func.generate_series(1, size * len(hashes), size).table_valued("start").render_derived()
    wanted = sa.select(sa.func.substring(every, start.c.start, size).label("content_hash")).subquery("wanted")
    chunks = tables.chunks.c
    stored = sa.select(chunks.vector).where(chunks.content_hash == wanted.c.content_hash).limit(1).lateral()
    statement = sa.select(wanted.c.content_hash, stored.c.vector).join_from(wanted, stored, sa.true())
    return {
        bytes(content_hash): np.asarray(vector, np.float32) for content_hash, vector in connection.execute(statement)
    }
