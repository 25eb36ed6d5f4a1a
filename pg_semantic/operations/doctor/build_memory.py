"""Detects a vector index that will be built, or built again, with too little memory or disk space."""

from collections.abc import Iterator

import sqlalchemy as sa

from pg_semantic import registry, settings
from pg_semantic.database import transaction
from pg_semantic.index import hnsw_size
from pg_semantic.registry import Generation
from pg_semantic.worker import build_forecast, create_index_concurrently
from pg_semantic.worker.build_forecast import BuildForecast

NAME = "build_memory"
WHY = "a graph that doesn't fit into memory is built on disk, which takes many times longer"
_SETTING = settings.variable("maintenance_work_mem")


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Yields subject, what, why and repair for each vector index that isn't built yet and that is short of something.

    Knows the sizes from the statistics of the tables, and says nothing while these were never analyzed.
    """
    memory = settings.load().maintenance_work_mem
    for generation in registry.generations(connection):
        found = None if generation.gone else _forecast(connection, generation, memory)
        if found is not None and found.problems:
            what = f"its vector index, which isn't built yet, will be short of resources: {found.problems[0]}"
            repair = f"{_SETTING}={hnsw_size.as_setting(found.memory_bytes)} pg-semantic worker"
            yield f"index {generation.title}", what, WHY, repair


def _forecast(connection: sa.Connection, generation: Generation, memory: str | None) -> BuildForecast | None:
    with transaction.unless_busy(), connection.begin_nested():
        if create_index_concurrently.state(connection, generation.stored.vector_index) != "ready":
            count = build_forecast.estimate_chunks(connection, generation)
            if count is not None:
                return build_forecast.of_spec(connection, generation.spec, count, memory=memory)
    return None
