"""Training pairs: a query, and a row that answers it.

Pairs come from judgements, from a statement on your own tables, or from a column that stands for the question. They
hold keys and not texts: what is trained on is read from the index later.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.evaluation import user_statement
from pg_semantic.evaluation.judgements import Judgements
from pg_semantic.evaluation.user_statement import UserStatement
from pg_semantic.index import chunk_tables, keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs, validation
from pg_semantic.search.legs import Where

_RELEVANT = 1  # the lowest grade of a row that answers a query


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the key of a row that answers it.

    Args:
        query: The text of the query.
        key: The row's key as text. A composite key is a JSON array of texts.
        score: How well the row answers, 0 to 1; None if that isn't known.

    Raises:
        errors.ConfigurationError: The query is blank, or the score is not between 0 and 1.
        errors.QueryError: The query is too long, or has a NUL character or a lone surrogate.
    """

    query: str
    key: str
    score: float | None = None

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise errors.ConfigurationError("A training pair has an empty query: leave it out, or fill it in.")
        validation.check_query_text(self.query)
        if self.score is not None and not 0 <= self.score <= 1:
            raise errors.ConfigurationError(
                f"A training pair has the score {self.score}: a score must be between 0 (no answer) and 1 (the answer)."
            )


def from_judgements(judgements: Judgements) -> list[Pair]:
    """Returns a pair for each row that was judged relevant to a query: a grade of 1 or more.

    The grade does not become the score, because grades have no common scale.
    """
    return [
        Pair(query, key)
        for query, grades in judgements.grades.items()
        for key, grade in grades.items()
        if grade >= _RELEVANT
    ]


def from_select(session: orm.Session, index: BoundIndex[Any], statement: UserStatement) -> list[Pair]:
    """Returns a pair for each row of a statement on your own tables.

    Args:
        statement: A SELECT or its text, with the columns query and key (as many as the table has key columns, in key
            order), in this order and with any names. Rows with a NULL or a blank query are left out.

    Raises:
        errors.QueryError: The statement fails, or returns other columns.
    """
    wrapped = user_statement.wrap(session, index, statement, others=(), required=0).subquery()
    query, key = chunk_tables.unblank(sa.cast(wrapped.c.query, sa.Text)), wrapped.c.key
    complete = sa.select(query, key).where(query.is_not(None), key.is_not(None))
    return [Pair(*row) for row in user_statement.execute(session, index, complete) if row[0].strip()]


def from_column(
    session: orm.Session,
    index: BoundIndex[Any],
    column: sa.ColumnElement[Any] | orm.InstrumentedAttribute[Any],
    *,
    where: Where = (),
    limit: int | None = None,
    seed: int | None = None,
) -> list[Pair]:
    """Returns a pair for each row: the text of a column asks for the row that it belongs to.

    This makes pairs without any judgement, such as from titles, subjects or questions. If the column is part of the
    text that is indexed, each row contains its own query, so that the recall of these pairs says nothing. The report of
    `mine` counts such pairs.

    Args:
        column: A column of the index's table, such as ``Article.title``. Rows where it is blank are left out, or longer
            than a query can be.
        where: Conditions on the table, as in a search.
        limit: How many pairs to return, in the order of the keys unless there is a seed. None means all.
        seed: Chooses random rows. Computes a hash for each row of the table.

    Raises:
        errors.ConfigurationError: The seed is out of range.
        errors.QueryError: The column belongs to another table.
    """
    if limit is not None and limit < 1:
        raise errors.QueryError(f"limit={limit}: limit must be 1 or more, or None for all rows.")
    asks = chunk_tables.unblank(sa.cast(column, sa.Text))
    filters = [*legs.conditions(where), sa.func.length(asks) <= validation.MOST_CHARACTERS]
    legs.require_own(index, filters)
    key = index.tables.source_key
    order: list[sa.ColumnElement[Any]] = [*key]
    if seed is not None:
        order.insert(0, seeds.order(keys.as_text(key), seeds.require(seed)))
    chosen = sa.select(index.entity).where(*filters).order_by(*order).limit(limit)
    statement = chosen.with_only_columns(asks, keys.as_text(key), maintain_column_froms=True)
    with database.translated():
        rows = generation_tracker.connect(session, index).execute(statement)
        return [Pair(query, row) for query, row in rows if query.strip()]
