"""`BoundIndex`: a semantic index of a mapped class, with its tables. What searches and statements work with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.index import chunk_tables, distances, more_like_this
from pg_semantic.index.chunk_class import Chunk
from pg_semantic.index.spec import IndexSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BoundIndex(Generic[T]):
    """A semantic index of a mapped class: the value of ``Article.semantic``."""

    entity: type[T]
    tables: chunk_tables.Tables
    Chunk: type[Chunk]

    @property
    def spec(self) -> IndexSpec:
        """The semantic index as plain data."""
        return self.tables.spec

    @property
    def name(self) -> str:
        """The name of the index, which is also the name of its chunk table."""
        return self.tables.spec.name

    def distance(self, vector: distances.Vector) -> sa.ColumnElement[float]:
        """Returns the distance of a row's nearest chunk, as a column for any statement on the mapped class.

        The distance is computed for every row that the statement reads, without an index. To find the nearest of many
        rows, use `search.knn`.

        Args:
            vector: The query vector, of the index's dimensions.

        Returns:
            The cosine distance, 0 to 2, or NULL for a row without vectors.

        Raises:
            errors.QueryError: The vector has other dimensions, is zero, or is not finite.
        """
        return distances.row_distance(self.tables, distances.query_vector(self.spec, vector))

    def similar_to(self, *, positive: Sequence[Any], negative: Sequence[Any] = ()) -> more_like_this.Examples:
        """Returns a "more like this" query, which `search.knn` and `Searcher` take in place of a vector.

        An example is a key (a tuple if the key has several columns), an instance, or a vector (an array or a list).
        The example rows themselves are not found.

        Args:
            positive: Examples that the hits should be like; at least one.
            negative: Examples that the hits should be unlike.

        Raises:
            errors.QueryError: There is no positive example, or an example does not fit the table.
        """
        if isinstance(positive, str | bytes) or isinstance(negative, str | bytes):
            raise errors.QueryError("positive and negative must be lists: for a single example, pass positive=[key].")
        return more_like_this.Examples(self.tables, tuple(positive), tuple(negative))

    def of(self, alias: type[T]) -> "BoundIndex[T]":
        """Returns the index for an alias of the class, to join it twice: ``Article.semantic.of(aliased(Article))``.

        Raises:
            errors.QueryError: The alias belongs to a join of tables.
        """
        chunk = orm.aliased(self.Chunk)
        # An alias has the columns of a table, and statements use nothing else of these three.
        source, chunks = (cast("sa.Table", sa.inspect(one).selectable) for one in (alias, chunk))
        if not {column.name for column in self.spec.key} <= {column.name for column in source.c}:
            raise errors.QueryError(
                f"{alias} is an alias of a join of tables, which cannot be searched: "
                f"use an alias of the class that is mapped to table {self.spec.table!r}."
            )
        receipts = cast("sa.Table", self.tables.receipts.alias())
        return BoundIndex(alias, chunk_tables.Tables(self.spec, source, chunks, receipts), chunk)
