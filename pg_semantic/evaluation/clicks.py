"""Estimates grades of relevance from clicks, by clicks over expected clicks (COEC).

A row at rank 1 is clicked because it is at rank 1, whether it is relevant or not. COEC divides the clicks on a row by
those that the average row would have had at the same ranks (Zhang and Jones, "Comparing Click Logs and Editorial Labels
for Training Query Rewriting", WWW 2007; Chapelle and Zhang, "A Dynamic Bayesian Network Click Model", WWW 2009):

    COEC(query, row) = clicks / sum over the times that the row was shown for the query of rate(rank then)

where rate(rank) is the share of all rows shown at that rank, for any query, that were clicked. The database computes
the sums; only two numbers for each query and row are transferred.

Spellings of a query that `query_hash` takes for the same are pooled. The database folds what it can, white space, case
and, in UTF-8, width; Python pools the rest.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.evaluation import grade_records, user_statement
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.sessions import Session
from pg_semantic.evaluation.user_statement import UserStatement
from pg_semantic.index.bound_index import BoundIndex

# With E expected clicks, the number of clicks on an average row has a standard deviation of about the square root of E
# (a Poisson variable). With 10, that is 32% of the expectation, so that twice as many is seldom chance.
LEAST_EXPECTED = 10.0

# The least COEC of grades 1, 2 and 3. At 1, a row is clicked as often as the average row at the same ranks. The steps
# above are doublings, because COEC is a ratio, and because smaller steps would be within the noise of LEAST_EXPECTED.
THRESHOLDS = (1.0, 2.0, 4.0)


def select(
    session: Session, index: BoundIndex[Any], statement: UserStatement, *, least_expected: float
) -> dict[str, dict[str, int]]:
    """Returns the grades of each query by key; `judgements.Judgements.clicks` describes the statement.

    Raises:
        errors.QueryError: The statement fails, returns other columns, or its rows do not suffice for an estimate.
        errors.DatabaseError: The role lacks privileges, or the database does not respond.
    """
    if not least_expected > 0:
        raise errors.QueryError(f"least_expected={least_expected}: it must be above 0.")
    rows = user_statement.execute(
        session, index, statement_of(session, index, statement, least_expected=least_expected)
    ).all()
    shown, clicked = rows[0][:2]
    _require_clicks(shown or 0, clicked or 0)
    grades = _grades([row[2:] for row in rows if row.query is not None and grade_records.is_searchable(row.query)])
    if not grades:
        raise errors.QueryError(
            f"No row has {least_expected:g} expected clicks for any query: collect more clicks, or pass a lower "
            "least_expected, which makes the grades less certain."
        )
    return grades


def _grades(sums: Iterable[Sequence[Any]]) -> dict[str, dict[str, int]]:
    """Returns grades from query, key, clicks and expected clicks. The first spelling stands for the others."""
    spelling: dict[bytes, str] = {}
    pooled: dict[tuple[str, str], tuple[float, float]] = {}
    for query, key, clicks, expected in sums:
        pair = spelling.setdefault(query_hash(query), query), key
        earlier = pooled.get(pair, (0.0, 0.0))
        pooled[pair] = earlier[0] + clicks, earlier[1] + expected
    grades: dict[str, dict[str, int]] = {}
    for (query, key), (clicks, expected) in pooled.items():
        grades.setdefault(query, {})[key] = bisect.bisect_right(THRESHOLDS, clicks / expected)
    return grades


def statement_of(
    session: Session, index: BoundIndex[Any], statement: UserStatement, *, least_expected: float
) -> sa.Select[*tuple[Any, ...]]:
    """Returns the statement with the clicks and expected clicks of each query and row that has ``least_expected``.

    Its columns are the numbers of rows shown and clicked in total, then query in its most frequent spelling, key,
    clicks and expected. If no row qualifies, it returns one row in which these four are NULL.
    """
    given = user_statement.wrap(session, index, statement, others=["rank", "clicked"], required=2).subquery()
    clicked = sa.func.coalesce(sa.cast(given.c.clicked, sa.Integer), 0) > 0
    complete = sa.and_(*(given.c[name].is_not(None) for name in ("query", "key", "rank")))
    columns = (given.c.query, given.c.key, given.c.rank, sa.cast(clicked, sa.Integer).label("clicked"))
    shown = sa.select(*columns, _folded(given.c.query).label("folded")).where(complete).cte("shown")
    rate = sa.cast(sa.func.avg(shown.c.clicked), sa.Double).label("rate")
    rates = sa.select(shown.c.rank, rate).group_by(shown.c.rank).cte("rates")
    totals = sa.select(sa.func.count().label("shown"), sa.func.sum(shown.c.clicked).label("clicked")).cte("totals")
    expected = sa.func.sum(rates.c.rate)
    sums = (
        sa.select(shown.c.folded, shown.c.key, sa.func.sum(shown.c.clicked).label("clicks"), expected.label("expected"))
        .join_from(shown, rates, shown.c.rank == rates.c.rank)
        .group_by(shown.c.folded, shown.c.key)
        .having(expected >= float(least_expected))
        .cte("sums")
    )
    spelled = (
        sa.select(shown.c.folded, sa.func.mode().within_group(shown.c.query).label("query"))
        .where(shown.c.folded.in_(sa.select(sums.c.folded)))
        .group_by(shown.c.folded)
        .cte("spelled")
    )
    found = sa.select(spelled.c.query, sums.c.key, sums.c.clicks, sums.c.expected).join_from(
        sums, spelled, sums.c.folded == spelled.c.folded
    )
    each = found.subquery("each")
    return (
        sa.select(totals.c.shown, totals.c.clicked, each.c.query, each.c.key, each.c.clicks, each.c.expected)
        .join_from(totals, each, sa.true(), isouter=True)
        .order_by(each.c.expected.desc(), each.c.query, each.c.key)
    )


def _folded(query: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Returns a query as the database can fold it: less than `query_hash` does, but never more."""
    text = sa.cast(query, sa.Text)
    is_utf8 = sa.func.getdatabaseencoding() == "UTF8"  # others can't be normalized
    width = sa.case((is_utf8, sa.func.pg_catalog.normalize(text, "NFKC")), else_=text)
    return sa.func.btrim(sa.func.regexp_replace(sa.func.lower(width), r"\s+", " ", "g"))


def _require_clicks(shown: int, clicked: int) -> None:
    if not shown:
        raise errors.QueryError(
            "The statement returns no rows with a query, a key and a rank: nothing was shown, conditions leave "
            "everything out, or no query has one of the hashes of your texts."
        )
    if not clicked:
        raise errors.QueryError(f"None of the {shown} rows was clicked: nothing can be learned from them.")
    if clicked == shown:
        raise errors.QueryError(
            f"All {shown} rows were clicked. Return the rows that were shown and not clicked too: without these, no "
            "rank is clicked more often than another."
        )
