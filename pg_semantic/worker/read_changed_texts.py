"""Reads claimed rows whose text has changed: the size of each, and as many texts as a batch has room for.

Short texts are returned along with their size. A long text is fetched only when there is room for it, so a worker's
memory is bounded and doesn't depend on how many rows it has claimed.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import registry
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.jobqueue import Job
from pg_semantic.worker import compare_text_hashes, failure_isolation

# About half a million tokens: the most text in a batch, however fast the encoder is.
MOST_CHARACTERS = 2_000_000

_SHORT_BYTES = 4_096

Blame = Callable[[Job, exc.DBAPIError], None]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much text a batch has room for. One row is always taken, unless it is longer than ``longest``.

    Attributes:
        characters: The most text to chunk and encode, in characters.
        octets: The most text to read, in bytes.
        longest: The longest row to take, in characters; None for any length.
    """

    characters: int = MOST_CHARACTERS
    octets: int = 4 * MOST_CHARACTERS
    longest: int | None = None


class Changed(NamedTuple):
    """A row as it was read. If it was synced before, its text differs from its receipt.

    Attributes:
        job: The claimed job.
        identity: The key columns, in the binary format of COPY.
        text: The text; empty if ``is_open``.
        octets: An upper bound of the text's size, in bytes.
        source_hash: The hash of ``text``.
        synced: Whether the row has a receipt.
        is_open: Whether the text is long and not fetched yet. Until then, it may turn out unchanged.
    """

    job: Job
    identity: tuple[bytes, ...]
    text: str
    octets: int
    source_hash: bytes
    synced: bool
    is_open: bool

    @property
    def characters(self) -> int:
        """The length of the text, or its upper bound if the text isn't fetched yet."""
        return self.octets if self.is_open else len(self.text)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read.

    Attributes:
        rows: The rows with their texts.
        later: Keys of rows that don't fit now.
        long: Keys of rows that are too long.
    """

    rows: list[Changed]
    later: set[str]
    long: set[str]


def read(engine: sa.Engine, tables: Tables, jobs: Sequence[Job], *, room: ReadLimits, blame: Blame) -> Reading:
    """Reads the rows of these jobs whose text has changed, in the order of the jobs, while there is room.

    Runs in transactions of its own.

    Args:
        engine: The worker's engine.
        tables: The tables of the generation.
        jobs: The claimed jobs.
        room: How much text to take.
        blame: Called with each job whose row the database cannot read, and the error.

    Raises:
        sqlalchemy.exc.DBAPIError: The failure isn't caused by a row.
    """
    look = functools.partial(_select, engine, tables, longest=_SHORT_BYTES)
    place = {job.key: number for number, job in enumerate(jobs)}
    found = sorted(
        _one_job_each(_flat(failure_isolation.halving(jobs, look, blame=blame))), key=lambda row: place[row.job.key]
    )
    long = {row.job.key for row in found if room.longest is not None and row.characters > room.longest}
    taken, later = _share([row for row in found if row.job.key not in long], room)
    asked = [row.job for row in taken if row.is_open]
    texts = _flat(failure_isolation.halving(asked, functools.partial(_select, engine, tables), blame=blame))
    whole = {row.job.key: row for row in texts}
    rows = [whole.get(row.job.key, row) for row in taken]
    return Reading([row for row in rows if not row.is_open], later, long)


def _select(engine: sa.Engine, tables: Tables, jobs: Sequence[Job], *, longest: int | None = None) -> list[Changed]:
    """Selects rows whose text has changed, and leaves texts of more than ``longest`` bytes open."""
    if not jobs:
        return []
    wanted = keys.key_table([job.key for job in jobs], len(tables.spec.key))
    octets = chunk_tables.octets_of(tables.spec, tables.source)
    is_open = sa.false() if longest is None else octets > longest
    text = chunk_tables.text_of(tables.spec, tables.source)
    digest = chunk_tables.source_hash(text)
    receipts = tables.receipts.c
    differs = sa.or_(receipts.source_hash.is_distinct_from(digest), compare_text_hashes.lacks_chunks(tables))
    same_row = sa.and_(*(a == b for a, b in zip(tables.receipt_key, tables.source_key, strict=True)))
    statement = (
        sa.select(
            wanted.c.key,
            sa.case((is_open, ""), else_=text).label("text"),
            octets.label("octets"),
            sa.case((is_open, sa.null()), else_=digest).label("source_hash"),
            receipts.source_hash.is_not(None).label("synced"),
            is_open.label("is_open"),
            *(keys.copy_binary(column).label(None) for column in tables.source_key),
        )
        .join_from(wanted, tables.source, keys.matches_key_table(wanted, tables.source_key))
        .outerjoin(tables.receipts, same_row)
        .where(sa.case((is_open, sa.true()), else_=differs))
    )
    of_key = {job.key: job for job in jobs}
    with transaction.begin(engine, by_index=True) as connection:
        found = list(connection.execute(statement))
        registry.require_named(connection, tables)
    return [
        Changed(of_key[key], tuple(identity), text, octets, source_hash, synced, is_open)
        for key, text, octets, source_hash, synced, is_open, *identity in found
    ]


def _one_job_each(changed: Iterable[Changed]) -> list[Changed]:
    """Keeps each row once: two keys can be the same row, as 1.0 and 1.00, or if a collation ignores case."""
    found: dict[tuple[bytes, ...], Changed] = {}
    for row in changed:
        found.setdefault(row.identity, row)
    return list(found.values())


def _share(changed: Sequence[Changed], room: ReadLimits) -> tuple[list[Changed], set[str]]:
    """Splits rows into those that fit, at least one, and the keys of the others."""
    characters, octets, taken = 0, 0, 0
    for row in changed:
        characters, octets = characters + row.characters, octets + row.octets
        if taken and (characters > room.characters or octets > room.octets):
            break
        taken += 1
    return list(changed[:taken]), {row.job.key for row in changed[taken:]}


def _flat(parts: Iterable[Iterable[Changed]]) -> list[Changed]:
    return [row for part in parts for row in part]
