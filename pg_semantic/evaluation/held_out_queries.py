"""The registry of judged queries: which are held out from tuning and training, forever.

They belong to the indexed table: all of its indexes share them, and they outlive the indexes. Only the owner of the
schema ``semantic`` can read and write it. It has hashes of queries, and no texts. A role that can search an index of
the table can ask about texts, and so test guesses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pg_semantic import errors, registry, sql
from pg_semantic.evaluation import sessions
from pg_semantic.evaluation.judgements import Judgements
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.sessions import Session
from pg_semantic.index.bound_index import BoundIndex


@dataclass(frozen=True, slots=True)
class TrainingJudgements:
    """Judgements that may be tuned or trained on.

    Attributes:
        judgements: What is left.
        held_out_queries: How many queries were dropped because they are held out.
        held_out_pairs: How many judgements of other queries were dropped because their row is relevant to a held-out
            query.
        gone: How many judgements were dropped because their row doesn't exist.
    """

    judgements: Judgements
    held_out_queries: int
    held_out_pairs: int
    gone: int


def held_out_hashes(session: Session, index: BoundIndex[Any]) -> frozenset[bytes]:
    """Returns the `query_hash` of each query that is held out.

    Raises:
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role does not own the schema ``semantic``.
    """
    return frozenset(query for query, is_held_out in sides(session, index, None).items() if is_held_out)


def held_out_among(session: Session, index: BoundIndex[Any], queries: Iterable[str]) -> frozenset[str]:
    """Returns those of the queries that are held out.

    Args:
        session: A Session or Connection of a role that can read the table of the index.

    Raises:
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role cannot read the table.
    """
    hashes = {query: query_hash(query) for query in queries}
    binds = {"index": _id(session, index), "hashes": sorted(set(hashes.values()))}
    found = set(sessions.execute(session, index, sql.statement("evaluation", "held_out").bindparams(**binds)).scalars())
    return frozenset(query for query, hashed in hashes.items() if hashed in found)


def require_not_held_out(session: Session, index: BoundIndex[Any], queries: Iterable[str]) -> None:
    """Checks that none of the queries is held out, before something is tuned or trained on them.

    Args:
        session: A Session or Connection of a role that can search the index.

    Raises:
        errors.QueryError: Queries are held out; the message says how many.
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role cannot search the index.
    """
    queries = list(queries)
    if found := held_out_among(session, index, queries):
        distinct = [len({query_hash(query) for query in some}) for some in (found, queries)]
        raise errors.QueryError(
            f"{distinct[0]} of {distinct[1]} queries are held out for table {index.spec.table!r}: if you tuned or "
            "trained on them, they could no longer measure what was learned. Pass the others: the file of "
            "`pg-semantic split --train`, or in Python the part `train` of evaluation.split."
        )


def without_held_out(
    session: Session, index: BoundIndex[Any], judgements: Judgements, *, and_rows: Judgements | None = None
) -> TrainingJudgements:
    """Drops held-out queries from judgements, and what would give away the answers to them.

    Args:
        session: A Session or Connection of a role that owns the schema ``semantic``.
        index: The semantic index whose rows were judged.
        judgements: The judgements to tune or train on.
        and_rows: The held-out judgements, if ``judgements`` doesn't contain them. Judgements about rows that are
            relevant to a held-out query are dropped for all queries. Queries recorded for training don't count.

    Raises:
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role does not own the schema ``semantic``.
    """
    existing, gone = judgements.resolved(session, index)
    kept = existing.only(_without(session, index, existing, is_held_out=True))
    held_out = existing.only(query for query in existing.queries if query not in kept.grades)
    rows = relevant_rows(held_out)
    if and_rows is not None:
        others, _ = and_rows.resolved(session, index)
        rows |= relevant_rows(others.only(_without(session, index, others, is_held_out=False)))
    trained, pairs = without_rows(kept, rows)
    return TrainingJudgements(trained, len(existing) - len(kept), pairs, gone)


def record_training(session: Session, index: BoundIndex[Any], queries: Iterable[str]) -> None:
    """Records that queries were tuned or trained on, so that no later split holds them out. The caller commits.

    Raises:
        errors.QueryError: Queries are held out. The others are recorded.
        errors.IndexNotFound: The index has not been created.
        errors.DatabaseError: The role does not own the schema ``semantic``.
    """
    queries = list(queries)
    record(session, index, {query_hash(query): False for query in queries})
    require_not_held_out(session, index, queries)


def sides(session: Session, index: BoundIndex[Any], hashes: Iterable[bytes] | None) -> dict[bytes, bool]:
    """Returns whether queries are held out, for those of these hashes that are recorded, or for all that are."""
    binds = {"index": _id(session, index), "hashes": None if hashes is None else sorted(set(hashes))}
    rows = sessions.execute(session, index, sql.statement("evaluation", "sides").bindparams(**binds))
    return {bytes(row.query_hash): row.held_out for row in rows}


def record(session: Session, index: BoundIndex[Any], new: Mapping[bytes, bool]) -> bool:
    """Records for each query whether it is held out, unless it is recorded already.

    Returns:
        Whether all were new. If not, another transaction may have recorded some a moment ago: read them again.
    """
    hashes = sorted(new)  # so that two transactions don't wait for each other
    binds = {"index": _id(session, index), "hashes": hashes, "held_out": [new[query] for query in hashes]}
    recorded = sessions.execute(session, index, sql.statement("evaluation", "record_sides").bindparams(**binds))
    return len(recorded.all()) == len(new)


def relevant_rows(judgements: Judgements) -> frozenset[str]:
    """Returns the keys of all rows that are relevant to a query."""
    return frozenset().union(*map(judgements.relevant, judgements.queries))


def without_rows(judgements: Judgements, rows: frozenset[str]) -> tuple[Judgements, int]:
    """Returns judgements without those about these rows, and how many these were."""
    kept = {
        query: {key: grade for key, grade in graded.items() if key not in rows}
        for query, graded in judgements.grades.items()
    }
    remaining = Judgements({query: graded for query, graded in kept.items() if graded}, judgements.implicit)
    return remaining, judgements.count - remaining.count


def _without(session: Session, index: BoundIndex[Any], judgements: Judgements, *, is_held_out: bool) -> list[str]:
    """Returns the queries that are not recorded with this side."""
    hashes = {query: query_hash(query) for query in judgements.queries}
    known = sides(session, index, hashes.values())
    return [query for query, hashed in hashes.items() if known.get(hashed) is not is_held_out]


def _id(session: Session, index: BoundIndex[Any]) -> int:
    return registry.index_id(sessions.connection(session, index), index.tables)
