"""Splits judgements into those to tune and train on, and those that are held out to measure the result."""

from dataclasses import dataclass
from typing import Any

from pg_semantic import errors
from pg_semantic.evaluation import components, held_out_queries
from pg_semantic.evaluation.judgements import Judgements
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.sessions import Session
from pg_semantic.index.bound_index import BoundIndex


@dataclass(frozen=True, slots=True)
class Split:
    """Judgements in parts. No query, and no row that is relevant to one, is in both ``train`` and ``held_out``.

    Attributes:
        train: Judgements to tune and train on. They have no judgement about a row that is relevant in ``held_out``.
        held_out: Judgements to measure the result with, and to learn nothing from.
        left_out: Judgements of earlier training queries that are connected to held-out ones by now. Don't use them.
        removed: How many judgements of grade 0 were removed from ``train``, because their row is relevant in
            ``held_out``.
        gone: How many judgements were left out because their row doesn't exist.
    """

    train: Judgements
    held_out: Judgements
    left_out: Judgements
    removed: int = 0
    gone: int = 0


def split(
    session: Session, index: BoundIndex[Any], judgements: Judgements, *, held_out: float = 0.3, seed: int = 0
) -> Split:
    """Splits judgements, so that no row that is relevant to a query stands on both sides.

    Queries are connected if they have a relevant row in common, directly or over other queries, and are then on the
    same side. So a large group of connected queries can make the held-out share differ from what you ask for. Queries
    that differ in case, width or white space only are the same query.

    The database remembers the side of each query forever, under a hash, for the table and all of its indexes, even if
    you drop them. If you split more judgements later, known queries keep their sides, and new ones join those that they
    are connected to. The caller commits. Two splits at the same time agree on the sides.

    Args:
        session: A Session or Connection of a role that owns the schema ``semantic``. With an AsyncSession:
            ``await session.run_sync(evaluation.split, Article.semantic, judgements)``.
        index: The semantic index whose rows were judged.
        judgements: All judgements.
        held_out: The share of all queries to hold out, 0 to 1. With 1, all queries that aren't connected to earlier
            training queries are held out, for judgements that come with a split of their own.
        seed: Decides which new queries are held out. The same seed and queries give the same sides.

    Raises:
        errors.QueryError: ``held_out`` is out of range.
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role does not own the schema ``semantic``.
    """
    if not 0 <= held_out <= 1:
        raise errors.QueryError(f"held_out={held_out}: it is a share of the queries, 0 to 1.")
    existing, gone = judgements.resolved(session, index)
    hashes = {query: query_hash(query) for query in existing.queries}
    sides = _recorded(session, index, components.connected(existing, hashes), share=held_out, seed=seed)
    return divided(existing, {query: sides[hashes[query]] for query in existing.queries}, gone=gone)


def divided(judgements: Judgements, sides: dict[str, components.Side], *, gone: int = 0) -> Split:
    """Returns judgements in parts, by the side of each query."""
    train, test, left_out = (
        judgements.only(query for query, side in sides.items() if side == wanted)
        for wanted in ("train", "held_out", "left_out")
    )
    # By now, only grade 0 can be affected: a relevant row connects its queries.
    train, removed = held_out_queries.without_rows(train, held_out_queries.relevant_rows(test))
    return Split(train, test, left_out, removed, gone)


def _recorded(
    session: Session, index: BoundIndex[Any], connected: list[components.Component], *, share: float, seed: int
) -> dict[bytes, components.Side]:
    """Returns the side of each query, and records those that are new."""
    queries = frozenset().union(*connected)
    while True:
        known = held_out_queries.sides(session, index, queries)
        sides = components.assign(connected, known, share=share, seed=seed)
        new = {query: side == "held_out" for query, side in sides.items() if query not in known}
        if held_out_queries.record(session, index, new):
            return sides
        # Another transaction has recorded some of these queries: decide again, with the sides that they have now.
