"""The generation to train on, once nothing forbids it: `read`, `require_trainable`."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import orm

from pg_semantic import evaluation, settings
from pg_semantic.database import own_transaction
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker, legs
from pg_semantic.search.legs import Where
from pg_semantic.training import base_encoder, tenants


def require_trainable(
    session: orm.Session, index: BoundIndex[Any], queries: Iterable[str], *, where: Where, from_trained: bool
) -> None:
    """Checks that the live generation's encoder can be trained on queries, before these are recorded as trained on.

    Raises:
        errors.EncoderError: The encoder has no weights here, is quantized, or was trained already.
        errors.IndexNotFound, errors.QueryError: See `read`.
    """
    live = read(session, index, queries, where=where)
    base_encoder.reference_of(live, settings.load(), from_trained=from_trained)


def read(session: orm.Session, index: BoundIndex[Any], queries: Iterable[str], *, where: Where) -> Generation:
    """Returns the live generation of an index. A transaction that this begins ends.

    Args:
        session: Whose privileges and policies apply.
        index: The semantic index.
        queries: The queries to train on.
        where: Conditions on the rows to train on.

    Raises:
        errors.IndexNotFound: The index has not been created.
        errors.QueryError: A query is held out, a condition is on another table, or there is no condition in place of
            the row-level security that the role bypasses.
    """
    filters = legs.conditions(where)
    legs.require_own(index, filters)
    with own_transaction.reading(session):
        live, _ = generation_tracker.read_live(session, index)
        evaluation.require_not_held_out(session, index, queries)
        tenants.require_separate(generation_tracker.connect(session, index), index, filters)
    return live
