"""Measures how fast the server builds a vector index: that of a sample, in a temporary table."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.schema import CreateIndex, CreateTable

from pg_semantic import sql
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, vector_index
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation
from pg_semantic.worker import build_records
from pg_semantic.worker.build_forecast import BuildForecast

SAMPLE = 5_000
_LEAST_STORED = 1_000
_NAME = "pg_semantic_sample"
_PATIENCE = "10min"


@dataclass(frozen=True, slots=True)
class MeasuredBuild:
    """The build of a sample by one process.

    Attributes:
        chunks: How many chunks the sample has.
        seconds: How long the build took.
    """

    chunks: int
    seconds: float

    def applied_to(self, forecast: BuildForecast) -> BuildForecast:
        """Returns a forecast with the time that follows: n log n, divided by the number of processes.

        A graph that is larger than the caches of the processors takes longer than that. So do processes that wait for
        each other.
        """
        alone = (
            self.seconds / build_records.work(self.chunks) * build_records.work(forecast.chunks, forecast.partitions)
        )
        return dataclasses.replace(forecast, seconds=alone / forecast.processes)


def measure(engine: sa.Engine, generation: Generation, *, sample: int = SAMPLE) -> MeasuredBuild:
    """Builds the vector index of a sample: of stored vectors, or of random ones while fewer than 1,000 are stored.

    Takes seconds, and leaves nothing behind. The role must be allowed to create temporary tables.

    Args:
        engine: Connects to the database.
        generation: The generation whose vector index will be built.
        sample: How many vectors to index, at most.
    """
    spec = _plain(generation.spec)
    table = _table(spec)
    stored = sa.select(_shortened(generation.tables.chunks.c.vector, generation.spec)).limit(sample)
    with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
        connection.execute(sql.statement("registry", "find_pgvector"))
        connection.execute(CreateTable(table))
        connection.execute(sa.insert(table).from_select(["vector"], stored))
        count = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        if count < min(_LEAST_STORED, sample):
            binds = {"count": sample - count, "dimensions": spec.encoder.dimensions}
            count += connection.execute(sql.statement("vector_index", "add_random_vectors"), binds).rowcount
        [index] = table.indexes
        started = time.monotonic()
        connection.execute(CreateIndex(index))
        seconds = time.monotonic() - started
        connection.rollback()
    return MeasuredBuild(count, seconds)


def _plain(spec: IndexSpec) -> IndexSpec:
    """Returns the spec of an index on vectors as long as prefixes, which takes as long to build as one on prefixes."""
    if spec.prefix is None:
        return spec
    encoder = dataclasses.replace(spec.encoder, dimensions=spec.prefix)
    return dataclasses.replace(spec, encoder=encoder, storage="halfvec", compressed=None)


def _shortened(vector: sa.ColumnElement[Any], spec: IndexSpec) -> sa.ColumnElement[Any]:
    return vector if spec.prefix is None else sa.func.subvector(sa.cast(vector, VECTOR()), 1, spec.prefix)


def _table(spec: IndexSpec) -> sa.Table:
    column = sa.Column("vector", chunk_tables.vector_type(spec), nullable=False)
    table = sa.Table(_NAME, sa.MetaData(), column, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
    vector_index.add(spec, table)
    return table
