"""More like this: queries by positive and negative examples, which are rows or vectors."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.index import distances, keys
from pg_semantic.index.chunk_tables import Tables


@dataclass(frozen=True, slots=True)
class Examples:
    """A query by examples, each a key, an instance or a vector, created by `BoundIndex.similar_to`.

    The query vector is twice the mean of the positive examples minus the mean of the negative ones, as in Qdrant's
    recommendations. A row counts as the normalized mean of its chunks; a row without vectors is ignored.
    """

    tables: Tables
    positive: tuple[Any, ...]
    negative: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.positive:
            raise errors.QueryError("similar_to(positive=[]) has no example: pass at least one.")
        for example in (*self.positive, *self.negative):
            if not _is_vector(example):
                _key(example, self.tables)

    @property
    def has_vectors(self) -> bool:
        """Whether an example is a vector, whose encoder is unknown."""
        return any(map(_is_vector, (*self.positive, *self.negative)))

    def query(self) -> sa.ColumnElement[Any]:
        """Returns the query vector as SQL. It is NULL if no positive example has a vector."""
        like = self._mean(self.positive)
        if not self.negative:
            return like
        unlike = self._mean(self.negative)
        away = like.op("+")(like).op("-")(unlike)
        return sa.func.coalesce(away, like, type_=like.type)

    def is_not_zero(self) -> sa.ColumnElement[bool]:
        """Returns the condition that the query vector exists and is not zero, since a zero vector has no neighbors."""
        return self.query().op("<#>", return_type=sa.Double())(self.query()) < 0  # minus the square of its length

    def is_other(self) -> sa.ColumnElement[bool]:
        """Returns the condition that a row is not one of the examples."""
        return ~_is_one_of(self.tables.source_key, self._keys((*self.positive, *self.negative)))

    def _keys(self, examples: Sequence[Any]) -> list[tuple[Any, ...]]:
        return [_key(example, self.tables) for example in examples if not _is_vector(example)]

    def _mean(self, examples: Sequence[Any]) -> sa.ColumnElement[Any]:
        chunks, table = self.tables.chunks.alias(), self.tables.source
        source = getattr(table, "element", table).alias()  # so that row-level security applies to examples too
        kind = chunks.c.vector.type
        # The source's columns, because their types bind values as the mapped class does.
        key = [keys.column(source, column.name) for column in self.tables.spec.key]
        same_row = sa.and_(
            *(chunks.c[one.name] == column for one, column in zip(self.tables.spec.key, key, strict=True))
        )
        of_rows = (
            sa.select(sa.func.l2_normalize(sa.func.avg(chunks.c.vector), type_=kind).label("vector"))
            .join_from(chunks, source, same_row)
            .where(_is_one_of(key, self._keys(examples)))
            .group_by(*key)
        )
        given = [
            sa.select(
                sa.func.l2_normalize(distances.query_vector(self.tables.spec, example), type_=kind).label("vector")
            )
            for example in examples
            if _is_vector(example)
        ]
        all_of_them = sa.union_all(of_rows, *given).subquery()
        return sa.select(sa.func.avg(all_of_them.c.vector, type_=kind)).scalar_subquery()


def _is_vector(example: object) -> bool:
    return isinstance(example, np.ndarray | list)


def _key(example: Any, tables: Tables) -> tuple[Any, ...]:  # noqa: ANN401 - a key can be anything
    state = sa.inspect(example, raiseerr=False)
    if isinstance(state, orm.InstanceState):
        if state.identity is None:
            raise errors.QueryError(f"{example!r} has no key yet: flush the session first.")
        if getattr(tables.source, "element", tables.source) not in state.mapper.tables:  # the table behind an alias
            raise errors.QueryError(
                f"The example {example!r} is not a row of {tables.spec.table!r}: pass one of its rows or keys."
            )
        key = _key_of(state, tables)
    else:
        key = example if isinstance(example, tuple) else (example,)
    if len(key) != len(tables.spec.key):
        names = ", ".join(column.name for column in tables.spec.key)
        raise errors.QueryError(f"The example {example!r} is not a key of {tables.source.name!r}: pass ({names}).")
    return key


def _key_of(state: orm.InstanceState[Any], tables: Tables) -> tuple[Any, ...]:
    """Returns the key of an instance's row. Its mapper may use other key columns, or another order."""
    of_column, identity = state.mapper.get_property_by_column, state.identity or ()
    known = dict(zip(map(of_column, state.mapper.primary_key), identity, strict=True))
    source = getattr(tables.source, "element", tables.source)
    wanted = [of_column(keys.column(source, column.name)) for column in tables.spec.key]
    return tuple(known[one] if one in known else getattr(state.obj(), one.key) for one in wanted)


def _is_one_of(key: Sequence[sa.ColumnElement[Any]], wanted: Sequence[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    if not wanted:
        return sa.false()
    if len(key) == 1:
        return key[0].in_([value for (value,) in wanted])
    # Not a row value IN a list, because comparing each column alone binds its value with the column's type.
    return sa.or_(*(sa.and_(*map(operator.eq, key, values)) for values in wanted))
