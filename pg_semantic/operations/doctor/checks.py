"""All checks, with how severe their findings are and why they matter. The queries are in ``sql/doctor.sql``."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from pg_semantic import sql

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Check:
    """A query that returns a row (subject, what, repair) for each problem.

    Attributes:
        name: Also the name of its statement in ``sql/doctor.sql``.
        severity: ``error`` if searches, syncing or the application's writes go wrong now, ``warning`` if they will
            later.
        why: Why a finding matters.
    """

    name: str
    severity: Severity
    why: str

    @property
    def statement(self) -> sa.TextClause:
        """The query of this check."""
        return sql.statement("doctor", self.name)


# In the best order for repairs: the server, tables, capture, indexes, workers.
CHECKS = (
    Check(
        "pgvector_version",
        "warning",
        "releases before 0.8.4 can corrupt a vector index during vacuum or a parallel build",
    ),
    Check("slow_signs", "warning", "releases before 0.8.3 compute Hamming distances slowly"),
    Check(
        "search_path",
        "warning",
        "without pgvector's schema on the path, searches from Python fail, and so does creating an index",
    ),
    Check(
        "collation_version",
        "error",
        "an index on text that was sorted by other rules misses rows of its table",
    ),
    Check(
        "publications",
        "warning",
        "a subscriber that receives this queue would process changes of another database",
    ),
    Check("long_transactions", "warning", "until it ends, the queue cannot be vacuumed and no vector index completes"),
    Check(
        "autovacuum",
        "warning",
        "the queue grows without bound, and the planner uses outdated statistics",
    ),
    Check("replication_role", "error", "rows that such sessions write fire no ordinary triggers"),
    Check("gin_fuzzy_search_limit", "error", "searches by words return only a random part of the matching rows"),
    Check("lost_tables", "error", "the index can be neither searched nor synced"),
    Check("moved_schema", "error", "workers do not sync the index until all its tables are in one schema"),
    Check("swapped_tables", "error", "the application uses one table, but the index belongs to the other"),
    Check(
        "unlogged", "error", "if the server crashes, the table will be empty, and its rows will not be created again"
    ),
    Check("triggers", "error", "rows that change there keep the vectors of their old text"),
    Check("capture_privileges", "error", "the application cannot write to its own table"),
    Check(
        "foreign_keys",
        "error",
        "vectors of deleted rows remain, and if a key is reused, its row has another row's vectors",
    ),
    Check("columns", "error", "the text of rows cannot be read, so no row is synced"),
    Check("key_types", "error", "a row is not synced if its key does not fit in the tables of the index"),
    Check("problems", "error", "the index stays incomplete or out of date until a worker succeeds"),
    Check("inheritance", "error", "the parent's key, triggers and vectors do not cover rows of the child table"),
    Check("late_indexes", "error", "until it is built, searches read every row"),
    Check("partition_locks", "warning", "with many connections, searches fail: out of shared memory"),
    Check("table_statistics", "warning", "the planner may not use the vector index, or may use it where it should not"),
    Check("term_statistics", "warning", "searches by words rank as if every word were rare"),
    Check("search_functions", "warning", "users of psql and BI tools cannot search the index"),
    Check("worker", "error", "searches find rows by their old text, or not at all"),
    Check("backlog", "warning", "searches find these rows by their old text, or not at all"),
    Check("failed_rows", "error", "searches find them by their old text, or not at all"),
    Check(
        "privileges",
        "error",
        "chunks and receipts contain the text of rows, so only roles that can read the rows should read them",
    ),
    Check("worker_privileges", "error", "a worker that connects as this role cannot sync the index"),
)
