"""Analyzes partitioned chunk tables, because autovacuum analyzes only their partitions.

Without statistics of the whole table, the planner guesses how many chunks a join or a filter leaves.
"""

import logging

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, registry, sql
from pg_semantic.database import transaction
from pg_semantic.worker import create_index_concurrently

log = logging.getLogger("pg_semantic.worker")

_INSUFFICIENT_PRIVILEGE = "42501"


def follow(engine: sa.Engine) -> list[str]:
    """Runs ANALYZE on each partitioned chunk table whose number of rows has changed by a fifth since the last one.

    Takes seconds per partition, whatever its size, and blocks no one.

    Args:
        engine: The worker's engine.

    Returns:
        The indexes whose tables were analyzed.

    Raises:
        sqlalchemy.exc.DBAPIError: The connection was lost, or the server is short of resources.
    """
    with transaction.begin(engine) as connection:
        due = set(connection.scalars(sql.statement("vector_index", "unanalyzed")))
        found = [one for one in registry.generations(connection) if one.id in due] if due else []
    done = []
    for generation in found:
        try:
            with create_index_concurrently.own_session(engine) as (connection, _):
                create_index_concurrently.analyze(connection, generation.stored.chunks)
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error) and database.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            continue
        log.info("%s: analyzed", generation.title, extra={"event": "analyzed", "index": generation.title})
        done.append(generation.title)
    return done
