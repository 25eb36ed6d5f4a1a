"""The statistics that BM25 needs, counted anew when enough rows have changed; weights follow the average length.

Counting reads the lexemes of all rows, in one statement: about three seconds for 100,000 abstracts.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index import bm25
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import Lexical
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.worker import key_ranges, late_indexes

_PATIENCE = "30min"
_PAGE_ROWS = 500
_FEW_ROWS = 10_000  # counted in a moment, so that any change is reason enough
_DRAINED_DRIFT = 0.01
# How far the average length may be from the one that weights are computed with, as a share: to write all weights anew
# is to write all lexemes to their index anew. A score differs by less than a third of it.
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """What is known of the statistics of a semantic index; ``drift`` is the share of rows that changed since."""

    rows: int
    changed: int
    seconds: float | None

    def is_due(self, settings: Settings, *, draining: bool) -> bool:
        """Whether it is time to count again; ``draining`` is when a worker has come to the end of its work."""
        if not self.changed:
            return False
        if self.seconds is None or self.rows <= _FEW_ROWS:
            return True
        drift = _DRAINED_DRIFT if draining else settings.statistics_drift
        return self.changed >= drift * self.rows or self.seconds > settings.statistics_seconds


def statistics(connection: sa.Connection, generation: Generation) -> TermStatistics:
    """How old the statistics are, in rows and in time; reads the receipts, not their lexemes."""
    known = connection.execute(sql.statement("lexicon", "state"), {"generation": generation.id}).one_or_none()
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
    """Counts rows and terms, then writes weights anew where the average length has moved too far.

    Before the index on the lexemes is built, weights are exact. Does nothing when another worker is at it.
    """
    if generation.spec.lexical is None:
        return
    tables = generation.tables
    with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
        if not connection.scalar(sql.statement("lexicon", "lock"), {"generation": generation.id}):
            return
        built = late_indexes.state(connection, generation.stored.lexical_index) == "ready"
        binds = {
            "generation": generation.id,
            "receipts": database.qualified_name(tables.receipts.schema, tables.receipts.name),
            "rows": connection.scalar(sa.select(sa.func.count()).where(tables.receipts.c.chunk_count > 0)),
            "tolerance": _TOLERANCE if built else 0.0,
        }
        connection.execute(sql.statement("lexicon", "refresh"), binds)
    _reweigh(engine, tables, generation.spec.lexical)


def _reweigh(engine: sa.Engine, tables: Tables, lexical: Lexical) -> None:
    receipts = tables.receipts
    with transaction.begin(engine) as connection:
        now = sa.cast(connection.scalar(sa.select(bm25.weights_length(tables))), sa.Double)
        outdated = receipts.c.weights_length != now
        if not connection.scalar(sa.select(sa.exists().where(outdated))):
            return
    changes = {"weights": bm25.weights(lexical, receipts.c.lexemes, now), "weights_length": now}
    for part in key_ranges.ranges(engine, tables.receipt_key, rows=_PAGE_ROWS):
        transaction.patiently(engine, sa.update(receipts).where(part.of(tables.receipt_key), outdated).values(changes))
