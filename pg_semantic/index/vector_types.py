"""The types of a stored vector: those of pgvector, with the same Python value in each of its releases.

Releases before 0.5 return arrays for ``vector`` and objects of their own for ``halfvec``.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import HALFVEC, VECTOR


class StoredVector(VECTOR):
    """A ``vector`` column, whose values are lists of numbers."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], list[float] | None]:
        """Returns the function that reads a value."""
        return _listed(super().result_processor(dialect, coltype))


class StoredHalfVector(HALFVEC):
    """A ``halfvec`` column, whose values are lists of numbers."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], list[float] | None]:
        """Returns the function that reads a value."""
        return _listed(super().result_processor(dialect, coltype))


def _listed(read: Callable[[Any], Any]) -> Callable[[Any], list[float] | None]:
    def as_list(value: Any) -> list[float] | None:  # noqa: ANN401 - what the driver returns
        found = read(value)
        if found is None or isinstance(found, list):
            return found
        numbers: list[float] = found.to_list() if hasattr(found, "to_list") else found.tolist()
        return numbers

    return as_list
