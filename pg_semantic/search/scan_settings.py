"""The settings of a vector index scan: how many candidates it keeps, and how long it continues."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

Order: TypeAlias = Literal["strict_order", "relaxed_order"]

# pgvector's limit. Candidates beyond limit + offset make up for several chunks per row, and improve recall.
_MAX_EF_SEARCH = 1000
_MIN_EF_SEARCH = 100
_EF_SEARCH_FACTOR = 2
# Chunks that a scan visits before it gives up. pgvector's default of 20,000 is too few for a selective filter.
_MAX_SCAN_TUPLES = 1_000_000
_SCAN_MEM_MULTIPLIER = 32  # of work_mem


def with_scan_settings(asked: sa.ColumnElement[Any], *, wanted: int, order: Order) -> sa.ScalarSelect[Any]:
    """Returns the query vector as a scalar subquery that also applies the scan settings.

    Postgres evaluates the subquery once, before the index scan that needs its value. So the settings need no separate
    statement, event hook or round trip. They also apply in AUTOCOMMIT, and end with the transaction.

    Args:
        asked: The query vector.
        wanted: Number of rows that the scan should return.
        order: The order of pgvector's iterative scan.
    """
    done = (
        sa.func.set_config(name, value, sa.true(), type_=sa.Text).is_not(None)
        for name, value in scan_settings(wanted, order=order).items()
    )
    return sa.select(sa.case((sa.and_(*done), asked))).scalar_subquery()


def scan_settings(wanted: int, *, order: Order) -> Mapping[str, str]:
    """Returns pgvector's settings for a scan that should return ``wanted`` rows even with a selective filter."""
    ef_search = min(_MAX_EF_SEARCH, max(_MIN_EF_SEARCH, wanted * _EF_SEARCH_FACTOR))
    return {
        "hnsw.ef_search": str(ef_search),
        "hnsw.iterative_scan": order,
        "hnsw.max_scan_tuples": str(_MAX_SCAN_TUPLES),
        "hnsw.scan_mem_multiplier": str(_SCAN_MEM_MULTIPLIER),
    }
