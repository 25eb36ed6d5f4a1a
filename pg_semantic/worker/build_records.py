"""What the database remembers of the last build of each vector index: its speed, its age, and the changes since."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import JSONB

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index.spec import IndexSpec
from pg_semantic.worker.create_index_concurrently import Built

_LEAST_CHUNKS = 5_000  # a smaller build says little about a large one
# What the work for a node costs on top of its distances, in dimensions. From the processor time of builds that differ
# only in dimensions: halfvec at m = 16 took 0.27, 0.32 and 0.44 ms per chunk with 128, 192 and 384 dimensions.
_FIXED_COST = 279
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """The last build of a generation's vector index, if that index still exists.

    Attributes:
        built_at: When it ended.
        age_seconds: How long ago that was.
        seconds: How long it took.
        in_memory: Whether the graph fit into `maintenance_work_mem`.
        chunks: How many chunks were indexed.
        spec: The spec that the index was built for.
        changed: How many chunks were written or deleted since; None if the server's statistics were reset or lost.
    """

    generation_id: int
    built_at: dt.datetime
    age_seconds: float
    seconds: float
    in_memory: bool
    chunks: int
    spec: IndexSpec
    changed: int | None

    @property
    def drift(self) -> float | None:
        """Changed chunks since the build, divided by the chunks of the build; can exceed 1. None if unknown."""
        return None if self.changed is None else self.changed / max(1, self.chunks)


def record(engine: sa.Engine, generation_id: int, *, built: Built) -> None:
    """Records that a vector index was built just now, unless the role may not write to our schema.

    Args:
        engine: The worker's engine.
        generation_id: The generation that the index belongs to.
        built: What the build took.
    """
    binds = {"generation": generation_id, "seconds": built.seconds, "in_memory": built.in_memory}
    try:
        with transaction.unless_busy(), transaction.begin(engine) as connection:
            connection.execute(sql.statement("vector_index", "record_build"), binds)
    except exc.DBAPIError as error:
        if database.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise


def read(connection: sa.Connection) -> dict[int, BuildRecord]:
    """Returns the last build of each generation, by its id; nothing for a role that may not read them.

    Leaves out indexes that someone built again by hand: no one recorded when.
    """
    if not connection.scalar(sql.statement("vector_index", "may_read_builds")):
        return {}
    rows = connection.execute(sql.statement("vector_index", "builds").columns(spec=JSONB))
    return {
        row.generation_id: BuildRecord(
            generation_id=row.generation_id,
            built_at=row.built_at,
            age_seconds=row.age,
            seconds=row.seconds,
            in_memory=row.in_memory,
            chunks=row.chunks,
            spec=IndexSpec.from_json(row.spec),
            changed=row.changed,
        )
        for row in rows
    }


def seconds_from(records: Sequence[BuildRecord], chunks: int, *, spec: IndexSpec) -> float | None:
    """Estimates how long a build takes from earlier ones on the same server, which fit into memory.

    Only builds with the same type of vectors, ``m`` and ``ef_construction`` count, and of these the one with the most
    similar dimensions and then the most chunks. The time grows with n log n and with the dimensions.

    Args:
        records: The builds that are on record.
        chunks: How many chunks will be indexed.
        spec: The semantic index that they belong to.

    Returns:
        Seconds; None if no build is comparable.
    """
    known = [
        one
        for one in records
        if one.in_memory
        and one.chunks >= _LEAST_CHUNKS
        and (one.spec.storage, one.spec.compressed, one.spec.hnsw) == (spec.storage, spec.compressed, spec.hnsw)
    ]
    if not known:
        return None
    dimensions = spec.encoder.dimensions
    best = min(known, key=lambda one: (abs(one.spec.encoder.dimensions - dimensions), -one.chunks))
    longer = (_FIXED_COST + dimensions) / (_FIXED_COST + best.spec.encoder.dimensions)
    return best.seconds / work(best.chunks, best.spec.partitions) * work(chunks, spec.partitions) * longer


def work(chunks: int, partitions: int = 1) -> float:
    """Returns how much work a build is, on a scale of its own: n log n, of each partition."""
    return chunks * math.log(max(2, chunks / partitions))
