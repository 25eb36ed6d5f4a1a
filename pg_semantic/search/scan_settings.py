"""The settings of a vector index scan: how many candidates it keeps, and how long it continues."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.recall.objective import DEFAULT_EF_SEARCH, MAX_EF_SEARCH

Order: TypeAlias = Literal["strict_order", "relaxed_order"]
EfSearch: TypeAlias = int | sa.ColumnElement[Any]

# Candidates beyond limit + offset make up for several chunks per row, and improve recall.
_EF_SEARCH_FACTOR = 2
# Chunks that a scan visits before it gives up. pgvector's default of 20,000 is too few for a selective filter.
_MAX_SCAN_TUPLES = 1_000_000
_SCAN_MEM_MULTIPLIER = 32  # of work_mem


def with_scan_settings(
    asked: sa.ColumnElement[Any], *, wanted: int, order: Order, ef_search: EfSearch | None = None
) -> sa.ScalarSelect[Any]:
    """Returns the query vector as a scalar subquery that also applies the scan settings.

    Postgres evaluates the subquery once, before the index scan that needs its value. So the settings need no separate
    statement, event hook or round trip. They also apply in AUTOCOMMIT, and end with the transaction.

    Args:
        asked: The query vector.
        wanted: Number of rows that the scan should return.
        order: The order of pgvector's iterative scan.
        ef_search: As in `scan_settings`.
    """
    return _applying(asked, scan_settings(wanted, order=order, ef_search=ef_search))


def with_width(asked: sa.ColumnElement[Any], width: sa.ColumnElement[str], *, order: Order) -> sa.ScalarSelect[Any]:
    """Returns what `with_scan_settings` does, for a scan whose number of candidates is known to SQL."""
    return _applying(asked, _settings(width, order))


def _applying(
    asked: sa.ColumnElement[Any], settings: Mapping[str, str | sa.ColumnElement[str]]
) -> sa.ScalarSelect[Any]:
    done = (sa.func.set_config(name, value, sa.true(), type_=sa.Text).is_not(None) for name, value in settings.items())
    return sa.select(sa.case((sa.and_(*done), asked))).scalar_subquery()


def scan_settings(
    wanted: int, *, order: Order, ef_search: EfSearch | None = None
) -> Mapping[str, str | sa.ColumnElement[str]]:
    """Returns pgvector's settings for a scan that should return ``wanted`` rows even with a selective filter.

    Args:
        wanted: Number of rows that the scan should return.
        order: The order of pgvector's iterative scan.
        ef_search: How many candidates the scan keeps: a number, or SQL for the number that was chosen for the index,
            NULL if none was. The scan then keeps no fewer than the chosen number.
    """
    return _settings(_ef_search(wanted * _EF_SEARCH_FACTOR, ef_search), order)


def _settings(ef_search: str | sa.ColumnElement[str], order: Order) -> Mapping[str, str | sa.ColumnElement[str]]:
    return {
        "hnsw.ef_search": ef_search,
        "hnsw.iterative_scan": order,
        "hnsw.max_scan_tuples": str(_MAX_SCAN_TUPLES),
        "hnsw.scan_mem_multiplier": str(_SCAN_MEM_MULTIPLIER),
    }


def check_ef_search(ef_search: object) -> None:
    """Raises `errors.QueryError` if a caller's number of candidates is outside pgvector's limits."""
    if ef_search is None:
        return
    if not isinstance(ef_search, int) or isinstance(ef_search, bool) or not 1 <= ef_search <= MAX_EF_SEARCH:
        raise errors.QueryError(f"ef_search={ef_search!r}: ef_search must be a whole number from 1 to {MAX_EF_SEARCH}.")


def _ef_search(needed: int, given: EfSearch | None) -> str | sa.ColumnElement[str]:
    if isinstance(given, int):
        return str(given)
    if given is None:
        return str(min(MAX_EF_SEARCH, max(DEFAULT_EF_SEARCH, needed)))
    chosen = sa.func.greatest(needed, sa.func.coalesce(given, DEFAULT_EF_SEARCH))
    return sa.cast(sa.func.least(chosen, MAX_EF_SEARCH), sa.Text)
