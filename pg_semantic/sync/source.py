"""The read stage: claimed jobs become rows with chunks, and stored vectors of equal text are found again.

Two short transactions with the cutting between them, so that none is open while a long text is cut.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql

from pg_semantic import chunking, keys, registry, schema
from pg_semantic.chunking import Chunk, Ruler
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.schema import Tables
from pg_semantic.sync import isolation, placing, stored, transaction
from pg_semantic.sync.batch import Batch, Row
from pg_semantic.sync.placing import Stored

# About half a million tokens: more is not taken on at once, whatever the encoder's speed.
MOST_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True)
class _Changed:
    """A row as it was read; its text differs from what its receipt says, if it was synced before."""

    job: Job
    identity: tuple[bytes, ...]
    text: str
    source_hash: bytes
    synced: bool


def read(
    engine: sa.Engine,
    tables: Tables,
    claim: Claim,
    *,
    ruler: Ruler,
    characters: int = MOST_CHARACTERS,
    sisters: Sequence[Tables] = (),
) -> Batch:
    """Reads the claimed rows, cuts their text into chunks and compares these with what is stored.

    Rows beyond ``characters`` of text are left for later; one is always taken. Vectors of ``sisters``, generations with
    the same encoder, are used again.
    """
    batch = Batch(tables, claim, [])
    parts = isolation.halving(claim.jobs, functools.partial(_changed, engine, tables), blame=batch.blame)
    changed, later = _share(_one_job_each([row for part in parts for row in part]), characters)
    batch.claim = dataclasses.replace(claim, jobs=tuple(job for job in claim.jobs if job.key not in later))
    batch.characters, batch.later = sum(len(row.text) for row in changed), sorted(later)
    if changed:
        chunked = list(zip(changed, _chunked(changed, tables, ruler), strict=True))
        batch.uncut = {row.job.key: chunks for row, chunks in chunked if isinstance(chunks, str)}
        compare = functools.partial(_compared, engine, (tables, *sisters))
        for rows, vectors in isolation.halving(
            chunked, compare, blame=lambda one, error: batch.blame(one[0].job, error)
        ):
            batch.rows += rows
            batch.vectors |= vectors
    return batch


def _chunked(changed: Sequence[_Changed], tables: Tables, ruler: Ruler) -> Sequence[Sequence[Chunk] | str]:
    """The chunks of each row, or why it can not be cut: on failure each is cut by itself."""
    try:
        return chunking.chunk([row.text for row in changed], tables.spec.chunking, ruler)
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer raises, the other rows go on
        if len(changed) == 1:
            return [f"{type(error).__name__}: {error}"]
        return [chunks for row in changed for chunks in _chunked([row], tables, ruler)]


def _changed(engine: sa.Engine, tables: Tables, jobs: Sequence[Job]) -> list[_Changed]:
    wanted = keys.wanted([job.key for job in jobs], len(tables.spec.key))
    text = schema.text_of(tables.spec, tables.source).label("text")
    digest = schema.source_hash(text.element).label("source_hash")
    same_row = sa.and_(*(a == b for a, b in zip(tables.receipt_key, tables.source_key, strict=True)))
    sent = [keys.wire(column).label(None) for column in tables.source_key]
    statement = (
        sa.select(wanted.c.key, text, digest, tables.receipts.c.source_hash.is_not(None), *sent)
        .join_from(wanted, tables.source, keys.found(wanted, tables.source_key))
        .outerjoin(tables.receipts, same_row)
        .where(tables.receipts.c.source_hash.is_distinct_from(digest.element))
    )
    of_key = {job.key: job for job in jobs}
    with transaction.begin(engine) as connection:
        read = list(connection.execute(statement))
        registry.require_named(connection, tables)
    return [
        _Changed(of_key[key], tuple(identity), text, source_hash, synced)
        for key, text, source_hash, synced, *identity in read
    ]


def _one_job_each(changed: Sequence[_Changed]) -> list[_Changed]:
    """Each row once: two keys may belong to one row, as 1.0 and 1.00, or where a collation ignores case."""
    found: dict[tuple[bytes, ...], _Changed] = {}
    for row in changed:
        found.setdefault(row.identity, row)
    return list(found.values())


def _compared(
    engine: sa.Engine, known: Sequence[Tables], chunked: Sequence[tuple[_Changed, Sequence[Chunk] | str]]
) -> tuple[list[Row], dict[bytes, NDArray[np.float32]]]:
    """Rows with the chunks that are new, and the vectors that are known already for the text of these.

    The first of the tables are those of the rows; vectors are looked for in all.
    """
    tables = known[0]
    synced = [row.job.key for row, _ in chunked if row.synced]
    with transaction.begin(engine) as connection:
        before = stored.read(connection, tables, synced) if synced else {}
        rows = [_placed(row, chunks, before.get(row.job.key, ())) for row, chunks in chunked]
        missing = {chunk.content_hash for row in rows for _, chunk in row.new}
        vectors: dict[bytes, NDArray[np.float32]] = {}
        for place in known:
            vectors |= _reusable(connection, place, sorted(missing - vectors.keys()))
    return rows, vectors


def _share(changed: list[_Changed], characters: int) -> tuple[list[_Changed], set[str]]:
    """The rows that one batch takes on, and the keys of those that are too much text for it; at least one is taken."""
    total, taken = 0, 0
    for row in changed:
        total += len(row.text)
        if taken and total > characters:
            break
        taken += 1
    return changed[:taken], {row.job.key for row in changed[taken:]}


def _placed(row: _Changed, chunks: Sequence[Chunk] | str, before: Sequence[Stored]) -> Row:
    if isinstance(chunks, str):
        return Row(row.job, row.identity, row.text, row.source_hash, (), (), truncated=False)
    new, ordinals = placing.place(chunks, before)
    kept = tuple(known for known in before if known.ordinal in ordinals)
    truncated = any(chunk.truncated for chunk in chunks)
    return Row(row.job, row.identity, row.text, row.source_hash, new, kept, truncated=truncated)


def _reusable(connection: sa.Connection, tables: Tables, hashes: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """Vectors that the same encoder has made of the same text, for whatever row."""
    bind = sa.bindparam(None, list(hashes), type_=postgresql.ARRAY(sa.LargeBinary))
    wanted = sa.func.unnest(bind).table_valued(sa.column("content_hash", sa.LargeBinary)).render_derived()
    chunks = tables.chunks.c
    stored = sa.select(chunks.vector).where(chunks.content_hash == wanted.c.content_hash).limit(1).lateral()
    statement = sa.select(wanted.c.content_hash, stored.c.vector).join_from(wanted, stored, sa.true())
    return {
        bytes(content_hash): np.asarray(vector, np.float32) for content_hash, vector in connection.execute(statement)
    }
