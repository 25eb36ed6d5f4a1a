"""CREATE INDEX CONCURRENTLY for the late indexes, on vectors and on lexemes, canceled when another session has to wait.

An application may wait for the table, for example to run TRUNCATE or ALTER TABLE. The build itself waits for older
transactions, and these may be waiting for the application. So a second thread watches a build and cancels it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, DropIndex, ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import DDLCompiler

from pg_semantic import database, settings, sql
from pg_semantic.database import session_settings, transaction
from pg_semantic.index import partitions
from pg_semantic.index.chunk_tables import Tables

log = logging.getLogger("pg_semantic.worker")

State = Literal["missing", "broken", "building", "ready"]

_WATCH_SECONDS = 0.1
_NO_ROOM = "maintenance_work_mem"  # pgvector's notice names it when a graph outgrows it
_SETTING = settings.variable("maintenance_work_mem")

# What a second worker gets if two build at the same time: the name exists, or is being created.
_TAKEN = {"42P07", "23505", "40P01"}
_CONCURRENTLY = "tuple concurrently "  # "updated" or "deleted": an internal error, which the server doesn't translate


@dataclass(frozen=True, slots=True)
class Built:
    """A build that ended.

    Attributes:
        seconds: How long it took, with the time that it waited for older transactions. If some partitions were built
            before, how long all of them would have taken.
        in_memory: Whether its graph fit into `maintenance_work_mem`.
    """

    seconds: float
    in_memory: bool


def build(
    engine: sa.Engine,
    index: sa.Index,
    *,
    title: str,
    memory: str | None = None,
    on_session: Callable[[int | None], None] = lambda _: None,
) -> Built | None:
    """Builds an index on a connection of its own, without the timeouts that other statements have.

    Args:
        engine: The worker's engine.
        index: An index on the chunk or receipt table.
        title: What to call the semantic index in the log.
        memory: A value for `maintenance_work_mem`, such as ``9GB``; None keeps the server's. Has no effect behind a
            transaction pooler.
        on_session: Called with the process ID of the session that builds; None behind a transaction pooler.

    Returns:
        What it took; None if the index existed, or another session is building it.

    Raises:
        sqlalchemy.exc.DBAPIError: The build failed or was canceled.
    """
    with own_session(engine, memory=memory) as (connection, is_alone), logging_notices(connection, title) as notices:
        on_session(process_id(connection) if is_alone else None)
        started = time.monotonic()
        share = ensure(connection, index)
        return Built((time.monotonic() - started) / share, in_memory=not notices) if share else None


@contextlib.contextmanager
def own_session(engine: sa.Engine, *, memory: str | None = None) -> Iterator[tuple[sa.Connection, bool]]:
    """Opens a connection in AUTOCOMMIT mode without timeouts, for statements that take long.

    Args:
        engine: The worker's engine.
        memory: A value for `maintenance_work_mem`; None keeps the server's.

    Yields:
        The connection, and whether it has these settings: behind a transaction pooler, others would inherit them.
    """
    with contextlib.closing(engine.connect()) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        is_alone = session_settings.is_ours_alone(connection)
        if is_alone:
            connection.detach()  # these settings end with the connection
            connection.execute(sa.text("SET statement_timeout = 0; SET lock_timeout = 0"))
            connection.execute(sql.statement("registry", "own_transaction"), {"local": False})
            if memory is not None:
                connection.execute(sql.statement("vector_index", "set_memory"), {"memory": memory})
        yield connection, is_alone


def cancel_for_others(
    engine: sa.Engine,
    building: Future[Any],
    tables: Tables,
    *,
    is_closing: Callable[[], bool],
    session: Callable[[], int | None],
    look: Callable[[], None] = lambda: None,
) -> None:
    """Watches a build until it ends, and cancels it if another session waits for a lock that it holds.

    Args:
        engine: The worker's engine.
        building: The build, on another thread.
        tables: The tables whose indexes are built.
        is_closing: Whether to cancel the build in any case.
        session: The process ID of the session that builds, which no other session's build has; None if unknown.
        look: Called ten times a second, to show progress.
    """
    relations: dict[str, object] = {
        name: database.qualified_name(table.schema, table.name)
        for name, table in (("chunks", tables.chunks), ("receipts", tables.receipts))
    }
    while not wait([building], _WATCH_SECONDS).done:
        with contextlib.suppress(exc.DBAPIError), transaction.begin(engine) as connection:
            if is_closing():
                connection.execute(sql.statement("registry", "cancel_build"), relations | {"pid": session()})
            else:
                connection.execute(sql.statement("registry", "give_way"), relations)
        look()


def process_id(connection: sa.Connection) -> int:
    """Returns the process ID of a connection's session."""
    pid: int = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
    return pid


@contextlib.contextmanager
def logging_notices(connection: sa.Connection, title: str) -> Iterator[list[str]]:
    """Logs the server's notice that a graph outgrew its memory, which makes the build many times slower.

    Yields:
        A list to which such notices are added.
    """
    heard: list[str] = []

    def report(notice: psycopg.errors.Diagnostic) -> None:
        if _NO_ROOM in (said := notice.message_primary or ""):
            heard.append(said)
            fields = {"event": "index_slow", "index": title}
            advice = f"raise maintenance_work_mem on the server, or set {_SETTING} for the worker"
            log.warning("%s: %s: %s", title, said, advice, extra=fields)

    driver: Any = connection.connection.dbapi_connection
    driver.add_notice_handler(report)
    try:
        yield heard
    finally:
        driver.remove_notice_handler(report)


def ensure(connection: sa.Connection, index: sa.Index) -> float:
    """Builds an index unless it exists or is being built.

    Drops an interrupted build and starts over; of a partitioned index, only the partition that was interrupted. Takes
    minutes on millions of vectors; writes continue meanwhile.

    Args:
        connection: A connection in AUTOCOMMIT mode.
        index: An index on the chunk or receipt table.

    Returns:
        The share of the index that this session built, 0 to 1.
    """
    if state(connection, index) in {"ready", "building"}:
        return 0.0
    with claimed(connection, index) as is_ours:
        found = state(connection, index)  # again: a build that looked interrupted may just have finished
        if not is_ours or found in {"ready", "building"}:
            return 0.0
        built = 0.0
        try:
            if partitions.is_partitioned(index.table):
                built = _create_in_partitions(connection, index)
            else:
                _create(connection, index, is_broken=found == "broken")
                built = 1.0
        except exc.DBAPIError as error:
            if database.sqlstate(error) not in _TAKEN and _CONCURRENTLY not in str(error.orig):
                raise
        if index.table is not None:
            analyze(connection, index.table)
        return built


def _create(connection: sa.Connection, index: sa.Index, *, is_broken: bool) -> None:
    if is_broken:
        connection.execute(DropIndex(index, if_exists=True))
    connection.execute(CreateIndex(_found_anywhere(connection, index), if_not_exists=True))


def _create_in_partitions(connection: sa.Connection, index: sa.Index) -> float:
    """Builds the index of one partition after the other, and attaches each. Returns the share that it built.

    CREATE INDEX CONCURRENTLY doesn't work on a partitioned table. Searches use the index of a partition as soon as it
    is built.
    """
    _create_on_only(connection, index)
    table = index.table
    assert table is not None  # noqa: S101 - it is partitioned
    binds = {"chunks": database.qualified_name(table.schema, table.name), "suffix": partitions.suffix(index)}
    found = connection.execute(sql.statement("vector_index", "partitions"), binds).all()
    for part in found:
        own = partitions.index_on(part.name, index)
        if not part.valid:
            _create(connection, own, is_broken=part.existing)
        if not part.attached:
            _attach(connection, index, str(own.name))
    return sum(not part.valid for part in found) / max(1, len(found))


@transaction.retried
def _create_on_only(connection: sa.Connection, index: sa.Index) -> None:
    """Creates the index of the partitioned table, on another connection, which waits only a moment for writers."""
    with transaction.begin(connection.engine) as other:
        other.execute(partitions.CreateIndexOnOnly(_found_anywhere(other, index)))


@transaction.retried
def _attach(connection: sa.Connection, index: sa.Index, part: str) -> None:
    """Makes the index of a partition a part of the whole, which is valid once it has all its parts."""
    schema = index.table.schema if index.table is not None else None
    names = {"whole": database.qualified_name(schema, str(index.name)), "part": database.qualified_name(schema, part)}
    connection.execute(sql.statement("vector_index", "attach"), names)


@contextlib.contextmanager
def claimed(connection: sa.Connection, index: sa.Index) -> Iterator[bool]:
    """Keeps other workers from building or dropping indexes of the table. Yields False if one already does.

    Behind a transaction pooler this isn't possible, and it yields True.
    """
    if index.table is None or not session_settings.is_ours_alone(connection):
        yield True
        return
    table = {"table": database.qualified_name(index.table.schema, index.table.name)}
    is_ours = connection.scalar(sql.statement("registry", "claim_build"), table)
    try:
        yield bool(is_ours)
    finally:
        if is_ours:
            with contextlib.suppress(exc.DBAPIError):  # a lost connection ends the claim
                connection.scalar(sql.statement("registry", "release_build"), table)


def _found_anywhere(connection: sa.Connection, index: sa.Index) -> sa.Index:
    """Returns the index with its operator classes and functions qualified by the schema of pgvector."""
    options: Any = index.dialect_options["postgresql"]
    if options["ops"]:
        place = connection.scalar(sql.statement("registry", "pgvector_schema"))
        for part in (part for one in index.expressions if not isinstance(one, str) for part in visitors.iterate(one)):
            if isinstance(part, sa.Function):
                part.packagenames = (sa.quoted_name(str(place), quote=False),)
        options["ops"] = {column: f"{place}.{name.rpartition('.')[2]}" for column, name in options["ops"].items()}
    return index


def has_vectors(connection: sa.Connection, tables: Tables) -> bool:
    """Returns whether there is anything to index."""
    return bool(connection.scalar(sa.select(sa.exists().select_from(tables.chunks))))


def state(connection: sa.Connection, index: sa.Index) -> State:
    """Returns whether an index exists and is usable; ``broken`` means that its build was interrupted."""
    schema = index.table.schema if index.table is not None else None
    name = database.qualified_name(schema, str(index.name))
    row = connection.execute(sql.statement("registry", "index_state"), {"name": name}).one_or_none()
    if row is None:
        return "missing"
    if row.valid:
        return "ready"
    return "building" if row.building else "broken"


def analyze(connection: sa.Connection, table: sa.Table) -> None:
    """Runs ANALYZE on a table, and on each of its partitions."""
    connection.execute(_Analyze(table))


class _Analyze(ExecutableDDLElement):
    """ANALYZE, so that the planner knows about the new rows."""

    def __init__(self, table: sa.Table) -> None:
        self.table = table


@compiles(_Analyze, "postgresql")
def _analyze(statement: _Analyze, compiler: DDLCompiler, **_: object) -> str:
    return f"ANALYZE {compiler.preparer.format_table(statement.table)}"
