"""Claimed rows whose text has changed, read by bytes: the size of each, and the texts that a batch has room for.

Short texts come along with the look at their size. A long one is asked for when there is room for it, so that what a
worker holds depends on a bound and not on how many rows it has claimed.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import registry
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.jobqueue import Job
from pg_semantic.worker import comparison, failure_isolation

# About half a million tokens: more is not taken on at once, whatever the encoder's speed.
MOST_CHARACTERS = 2_000_000

_SHORT_BYTES = 4_096

Blame = Callable[[Job, exc.DBAPIError], None]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much text a batch has room for; one row is always taken, unless it is longer than ``longest`` characters.

    ``octets`` bounds the bytes of text that are read, ``characters`` the text that is cut and encoded.
    """

    characters: int = MOST_CHARACTERS
    octets: int = 4 * MOST_CHARACTERS
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A row as it was read; its text differs from what its receipt says, if it was synced before.

    ``octets`` is the most bytes that the text can have. A long text is left ``open``, unread, until it is asked for;
    whether it has changed is not known before.
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
        """How long the text is, or the most that it can be."""
        return self.octets if self.is_open else len(self.text)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: rows with their texts, keys of rows that are too much for now, and of those that are too long."""

    rows: list[Changed]
    later: set[str]
    long: set[str]


def read(engine: sa.Engine, tables: Tables, jobs: Sequence[Job], *, room: ReadLimits, blame: Blame) -> Reading:
    """The rows of these jobs whose text has changed, the first that there is room for, in transactions of their own."""
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
    """Rows whose text has changed, and if ``longest`` is given, those of more bytes, with their texts left open."""
    if not jobs:
        return []
    wanted = keys.key_table([job.key for job in jobs], len(tables.spec.key))
    octets = chunk_tables.octets_of(tables.spec, tables.source)
    is_open = sa.false() if longest is None else octets > longest
    text = chunk_tables.text_of(tables.spec, tables.source)
    digest = chunk_tables.source_hash(text)
    receipts = tables.receipts.c
    differs = sa.or_(receipts.source_hash.is_distinct_from(digest), comparison.lacks_chunks(tables))
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
    with transaction.begin(engine) as connection:
        found = list(connection.execute(statement))
        registry.require_named(connection, tables)
    return [
        Changed(of_key[key], tuple(identity), text, octets, source_hash, synced, is_open)
        for key, text, octets, source_hash, synced, is_open, *identity in found
    ]


def _one_job_each(changed: Iterable[Changed]) -> list[Changed]:
    """Each row once: two keys may belong to one row, as 1.0 and 1.00, or where a collation ignores case."""
    found: dict[tuple[bytes, ...], Changed] = {}
    for row in changed:
        found.setdefault(row.identity, row)
    return list(found.values())


def _share(changed: Sequence[Changed], room: ReadLimits) -> tuple[list[Changed], set[str]]:
    """The rows that there is room for, at least one, and the keys of the others."""
    characters, octets, taken = 0, 0, 0
    for row in changed:
        characters, octets = characters + row.characters, octets + row.octets
        if taken and (characters > room.characters or octets > room.octets):
            break
        taken += 1
    return list(changed[:taken]), {row.job.key for row in changed[taken:]}


def _flat(parts: Iterable[Iterable[Changed]]) -> list[Changed]:
    return [row for part in parts for row in part]
