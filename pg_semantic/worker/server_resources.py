"""What a server gives a build: memory, processes, shared memory and disk, as far as these can be known.

SQL tells the settings, but neither the size of ``/dev/shm`` nor the free disk space. These are known only if the server
runs on this machine, which is the case if it was reached through a Unix socket.
"""

import contextlib
import dataclasses
import shutil
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pg_semantic import sql

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where the server has its dynamic shared memory
_LEAST_PER_PROCESS = 32 * 2**20  # of maintenance_work_mem, or the server plans fewer processes
_GROWTH = 3  # each time a table is this many times larger, the server plans one more process


@dataclass(frozen=True, slots=True)
class ServerResources:
    """What a server gives a build of a session. Sizes are in bytes.

    Attributes:
        version: The version of the server, as in ``server_version_num``.
        maintenance_work_mem: How much memory a build may take.
        parallel_workers: How many processes may help with a build, at most.
        parallel_table_bytes: The size of a table from which on they do.
        shared_memory_type: Where shared memory for them comes from: ``posix``, ``sysv`` or ``mmap``.
        shared_memory: How much of it the server has, in use or not; None if unknown.
        disk_free: Free space on the disk of the data folder; None if unknown.
        role: The role of the session, quoted.
    """

    version: int
    maintenance_work_mem: int
    parallel_workers: int
    parallel_table_bytes: int
    shared_memory_type: str
    shared_memory: int | None
    disk_free: int | None
    role: str

    def processes(self, table_bytes: int, *, wanted: int | None = None) -> int:
        """Returns how many processes build an index, the session's own included.

        Follows ``plan_create_index_workers`` of the server, which decides whether a build is parallel, and
        ``ComputeParallelWorkers`` of pgvector, which then uses all of `max_parallel_maintenance_workers`.

        Args:
            table_bytes: The size of the chunk table, without TOAST.
            wanted: The storage parameter ``parallel_workers`` of the table.
        """
        if wanted is not None:
            return 1 + min(wanted, self.parallel_workers)
        planned, size = 0, max(1, self.parallel_table_bytes)
        while table_bytes >= size and planned < self.parallel_workers:
            planned += 1
            size *= _GROWTH
        while planned and self.maintenance_work_mem // (planned + 1) < _LEAST_PER_PROCESS:
            planned -= 1
        return 1 + self.parallel_workers if planned else 1


def read(connection: sa.Connection, *, memory: str | None = None) -> ServerResources:
    """Returns what the server gives a build of this role.

    Args:
        connection: A connection of the role that will build.
        memory: The `maintenance_work_mem` that the build will have, such as ``9GB``; None for that of the session.
    """
    row = connection.execute(sql.statement("vector_index", "server")).one()
    is_local = _is_local(connection)
    found = ServerResources(
        version=row.version,
        maintenance_work_mem=row.maintenance_work_mem,
        parallel_workers=row.parallel_workers,
        parallel_table_bytes=row.parallel_table_bytes,
        shared_memory_type=row.shared_memory_type,
        shared_memory=_shared_memory(row, is_local=is_local),
        disk_free=_free(row.data_directory) if is_local and row.data_directory else None,
        role=row.role,
    )
    if memory is None:
        return found
    size: int = connection.execute(sa.select(sa.func.pg_size_bytes(memory))).scalar_one()
    return dataclasses.replace(found, maintenance_work_mem=size)


def _is_local(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    return str(getattr(driver.info, "host", "")).startswith(("/", "@"))


def _shared_memory(row: sa.Row[Any], *, is_local: bool) -> int | None:
    reserved = int(row.reserved_shared_memory)
    if row.shared_memory_type == "posix" and is_local:
        with contextlib.suppress(OSError):
            return max(shutil.disk_usage(_SHARED_MEMORY).total, reserved)
    return None


def _free(folder: str) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
