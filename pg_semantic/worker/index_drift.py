"""How old and how large the vector indexes are, and how much has changed since they were built: for metrics."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.registry import Generation
from pg_semantic.worker import build_records


@dataclass(frozen=True, slots=True)
class IndexDrift:
    """A vector index whose build is on record.

    Attributes:
        drift: Chunks written or deleted since the build, divided by the chunks of the build; None if unknown.
        age_seconds: Time since the build.
        bytes: Its size; None while it is locked.
    """

    drift: float | None
    age_seconds: float
    bytes: int | None


def read(connection: sa.Connection, generations: Iterable[Generation]) -> dict[tuple[str, str], IndexDrift]:
    """Returns the vector indexes whose build is on record, by the name of the index with its schema, and the role."""
    known = build_records.read(connection)
    return {
        (one.qualified_name, one.role): IndexDrift(
            known[one.id].drift, known[one.id].age_seconds, _bytes(connection, one)
        )
        for one in generations
        if one.id in known
    }


def _bytes(connection: sa.Connection, generation: Generation) -> int | None:
    name = database.qualified_name(generation.spec.schema, str(generation.stored.vector_index.name))
    size: int | None = None
    with transaction.unless_busy(), connection.begin_nested():
        size = connection.scalar(sql.statement("vector_index", "index_size"), {"name": name})
    return size  # noqa: RET504 - None if the block was skipped
