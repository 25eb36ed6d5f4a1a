"""SQL that compares what is stored with the current rows, for the worker, `verify` and `repair`."""

import operator
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import LateralFromClause

from pg_semantic import jobqueue
from pg_semantic.index import bm25_expressions, chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.worker import policy_column

JOBS = jobqueue.JOBS
_MARKS = sa.table("mark", sa.column("generation_id"), sa.column("key", sa.Text), schema="semantic")
_GENERATIONS = sa.table("generation", sa.column("id"), sa.column("backfilled_at"), schema="semantic")


def damaged(tables: Tables) -> sa.ColumnElement[bool]:
    """Returns the condition that a chunk doesn't match its content hash or comes from another encoder."""
    chunks = tables.chunks.c
    return sa.or_(
        chunks.encoder_id != tables.spec.encoder.id, chunk_tables.source_hash(chunks.content) != chunks.content_hash
    )


def lacks_chunks(tables: Tables) -> sa.ColumnElement[bool]:
    """Returns the condition that a source row doesn't have as many chunks as its receipt says."""
    same_row = (a == b for a, b in zip(tables.chunk_key, tables.source_key, strict=True))
    stored = sa.select(sa.func.count()).select_from(tables.chunks).where(*same_row).correlate(tables.source)
    return tables.receipts.c.chunk_count != stored.scalar_subquery()


def without_row(tables: Tables, key: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """Returns the condition that a key in the chunk or receipt table has no source row."""
    return ~sa.exists().where(*(a == b for a, b in zip(tables.source_key, key, strict=True)))


def out_of_date(generation_id: int, tables: Tables, part: KeyRange, *, sister: Tables | None = None) -> sa.Select[Any]:
    """Selects the rows of a range, grouped by kind.

    Args:
        generation_id: The generation.
        tables: Its tables.
        part: The range.
        sister: The tables of another generation of the same index, whose rows have the same text and the same text
            search configuration. Lexemes that are the same there, for the same text, are not computed again, which
            takes most of the time.

    Returns:
        A statement with the columns ``kind``, ``rows`` (how many) and ``keys`` (as text, in order). The kind is
        ``failed`` or ``waiting`` for a faulty row with a job, the fault otherwise, and NULL for rows without a fault,
        whose keys are omitted. While the backfill runs, missing and stale rows are waiting too.
    """
    compared = _compared(generation_id, tables, part, sister=sister).subquery("compared")
    restarts = sa.exists().where(_MARKS.c.generation_id == generation_id, _MARKS.c.key.is_(None))
    unfinished = sa.or_(_GENERATIONS.c.backfilled_at.is_(None), restarts)
    backfilling = sa.select(unfinished).where(_GENERATIONS.c.id == generation_id)
    kind = sa.case(
        (compared.c.fault.is_(None), sa.null()),
        (compared.c.job == "failed", "failed"),
        (compared.c.job.is_not(None), "waiting"),
        (sa.and_(compared.c.fault.in_(["missing", "stale"]), backfilling.scalar_subquery()), "waiting"),
        else_=compared.c.fault,
    ).label("kind")
    counted = sa.func.count().label("rows")
    return sa.select(
        kind,
        counted,
        sa.func.array_agg(aggregate_order_by(compared.c.key, compared.c.key))
        .filter(kind.element.is_not(None))
        .label("keys"),
    ).group_by(kind)


def _compared(generation_id: int, tables: Tables, part: KeyRange, *, sister: Tables | None) -> sa.Select[Any]:
    """Selects every row of a range with its fault, or NULL, and the state of its job.

    OFFSET keeps the server from computing the fault again wherever the statement around it refers to it.
    """
    receipt = tables.receipts.c
    key = sa.collate(keys.as_text(tables.source_key), "C")  # the collation of the job table, whatever the source has
    digest = chunk_tables.source_hash(text := chunk_tables.text_of(tables.spec, tables.source))
    stored = _stored(tables)
    fault = sa.case(
        (sa.and_(receipt.source_hash.is_(None), text != ""), "missing"),
        (receipt.source_hash != digest, "stale"),
        *(
            [(sa.or_(policy_column.differs(tables, tables.receipts), stored.c.carried), "stale")]
            if tables.spec.carried
            else []
        ),
        (stored.c.foreign_encoder, "wrong_encoder"),
        (sa.or_(stored.c.chunks != sa.func.coalesce(receipt.chunk_count, 0), stored.c.altered), "damaged"),
        *([(_lexemes_differ(tables, text, sister), "damaged")] if tables.spec.lexical else []),
    )
    same_job = sa.and_(JOBS.c.generation_id == generation_id, JOBS.c.key == key)
    marked = sa.exists().where(_MARKS.c.generation_id == generation_id, _MARKS.c.key == key)
    job = sa.case((marked, "pending"), else_=JOBS.c.state)
    rows = tables.source.outerjoin(
        tables.receipts, sa.and_(*map(operator.eq, tables.receipt_key, tables.source_key))
    ).outerjoin(JOBS, same_job)
    if sister is not None:
        rows = rows.outerjoin(sister.receipts, sa.and_(*map(operator.eq, sister.receipt_key, tables.source_key)))
    return (
        sa.select(key.label("key"), fault.label("fault"), job.label("job"))
        .select_from(rows.join(stored, sa.true()))
        .where(part.of(tables.source_key))
        .offset(0)
    )


def _lexemes_differ(tables: Tables, text: sa.ColumnElement[str], sister: Tables | None) -> sa.ColumnElement[bool]:
    """Returns the condition that the lexemes in a receipt are not those of the text."""
    assert tables.spec.lexical is not None  # noqa: S101 - or there are no lexemes
    receipt = tables.receipts.c
    differ = receipt.lexemes != bm25_expressions.lexemes(tables.spec.lexical, text)
    if sister is None:
        return differ
    other = sister.receipts.c
    same = sa.and_(other.source_hash == receipt.source_hash, other.lexemes == receipt.lexemes)
    return sa.case((same, sa.false()), else_=differ)


def _stored(tables: Tables) -> LateralFromClause:
    """Selects what is stored for a row: how many chunks, and whether any of them is wrong."""
    chunks = tables.chunks.c
    altered = chunk_tables.source_hash(chunks.content) != chunks.content_hash
    foreign = chunks.encoder_id != tables.spec.encoder.id
    return (
        sa.select(
            sa.func.count().label("chunks"),
            sa.func.coalesce(sa.func.bool_or(altered), sa.false()).label("altered"),
            sa.func.coalesce(sa.func.bool_or(foreign), sa.false()).label("foreign_encoder"),
            sa.func.coalesce(sa.func.bool_or(policy_column.differs(tables, tables.chunks)), sa.false()).label(
                "carried"
            ),
        )
        .where(*map(operator.eq, tables.chunk_key, tables.source_key))
        .correlate(tables.source)
        .lateral("stored")
    )


def orphans(tables: Tables, table: sa.Table, part: KeyRange) -> sa.Select[Any]:
    """Selects keys of the chunk table without a row, or keys of the receipt table without a row and chunks.

    Skips keys that have a mark or a job: the worker that processes them deletes what is stored.
    """
    key = [table.c[column.name] for column in tables.spec.key]
    found = sa.select(keys.as_text(key).label("key")).where(part.of(key), without_row(tables, key)).distinct()
    found = found.order_by("key")
    if tables.generation is not None:
        for queue in (_MARKS, JOBS):
            waits = sa.exists().where(queue.c.generation_id == tables.generation, queue.c.key == keys.as_text(key))
            found = found.where(~waits)
    if table is tables.receipts:
        found = found.where(~sa.exists().where(*map(operator.eq, tables.chunk_key, key)))
    return found
