"""The statistics that BM25 needs, recounted when enough rows have changed; weights follow the average length.

Counting reads the lexemes of all rows in one statement: about three seconds for 100,000 abstracts.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index import bm25_expressions
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import Lexical
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.worker import create_index_concurrently, key_ranges

_PATIENCE = "30min"
_PAGE_ROWS = 500
_FEW_ROWS = 10_000  # fast to count, so any change is reason enough
_DRAINED_DRIFT = 0.01
# How far the average length may drift from the one that the weights were computed with, as a share. Rewriting all
# weights means rewriting the index on the lexemes too. A score differs by less than a third of the drift.
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """How outdated the statistics of a semantic index are.

    Attributes:
        rows: How many rows have chunks.
        changed: How many rows have changed since the statistics were counted.
        seconds: How long ago they were counted; None if never.
    """

    rows: int
    changed: int
    seconds: float | None

    def is_due(self, settings: Settings, *, draining: bool) -> bool:
        """Returns whether to count again; ``draining`` means that the worker has no work left."""
        if not self.changed:
            return False
        if self.seconds is None or self.rows <= _FEW_ROWS:
            return True
        drift = _DRAINED_DRIFT if draining else settings.statistics_drift
        return self.changed >= drift * self.rows or self.seconds > settings.statistics_seconds


def statistics(connection: sa.Connection, generation: Generation) -> TermStatistics:
    """Returns how outdated the statistics are. Reads the receipts, but not their lexemes."""
    known = connection.execute(sql.statement("term_statistics", "state"), {"generation": generation.id}).one_or_none()
    receipts = generation.tables.receipts.c
    synced, newer = connection.execute(
        sa.select(
            sa.func.count().filter(receipts.chunk_count > 0),
            sa.func.count().filter(receipts.embedded_at > known.refreshed_at) if known else sa.func.count(),
        )
    ).one()
    gone = max(0, known.row_count - synced) if known else 0
    return TermStatistics(synced, newer + gone, known.seconds if known else None)


def refresh(engine: sa.Engine, generation: Generation) -> None:
    """Counts rows and terms, then rewrites the weights if the average length has drifted too far.

    Until the index on the lexemes is built, weights are exact. Does nothing if another worker is counting.
    """
    if generation.spec.lexical is None:
        return
    tables = generation.tables
    with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
        if not connection.scalar(sql.statement("term_statistics", "lock"), {"generation": generation.id}):
            return
        built = create_index_concurrently.state(connection, generation.stored.lexical_index) == "ready"
        binds = {
            "generation": generation.id,
            "receipts": database.qualified_name(tables.receipts.schema, tables.receipts.name),
            "rows": connection.scalar(sa.select(sa.func.count()).where(tables.receipts.c.chunk_count > 0)),
            "tolerance": _TOLERANCE if built else 0.0,
        }
        connection.execute(sql.statement("term_statistics", "refresh"), binds)
    _reweigh(engine, tables, generation.spec.lexical)


def _reweigh(engine: sa.Engine, tables: Tables, lexical: Lexical) -> None:
    receipts = tables.receipts
    with transaction.begin(engine) as connection:
        now = sa.cast(connection.scalar(sa.select(bm25_expressions.weights_length(tables))), sa.Double)
        outdated = receipts.c.weights_length != now
        if not connection.scalar(sa.select(sa.exists().where(outdated))):
            return
    changes = {"weights": bm25_expressions.weights(lexical, receipts.c.lexemes, now), "weights_length": now}
    for part in key_ranges.ranges(engine, tables.receipt_key, rows=_PAGE_ROWS):
        transaction.patiently(engine, sa.update(receipts).where(part.of(tables.receipt_key), outdated).values(changes))
