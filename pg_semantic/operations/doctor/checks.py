"""Every check: how severe its findings are, and why they matter. The queries are in ``sql/doctor.sql``."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from pg_semantic import sql

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Check:
    """A query that gives a row (subject, what, repair) for each fault.

    ``severity`` is ``error`` where searches, syncing or the application's writes are wrong now, and ``warning`` where
    they will be. ``why`` says why a finding matters.
    """

    name: str
    severity: Severity
    why: str

    @property
    def statement(self) -> sa.TextClause:
        """The query."""
        return sql.statement("doctor", self.name)


# In the order in which their findings are best repaired: the server, tables, capture, indexes, workers.
CHECKS = (
    Check(
        "pgvector_version",
        "warning",
        "releases before 0.8.4 can corrupt a vector index when rows are vacuumed or the index is built in parallel",
    ),
    Check(
        "search_path",
        "warning",
        "searches from Python, and what creates an index, fail without the schema of pgvector's types and operators",
    ),
    Check(
        "collation_version",
        "error",
        "an index on text that was sorted by other rules does not find rows that are in the table",
    ),
    Check(
        "publications",
        "warning",
        "a subscriber that receives this queue would work through changes that are not its own",
    ),
    Check("long_transactions", "warning", "the queue cannot be vacuumed meanwhile, and no vector index can be built"),
    Check(
        "autovacuum",
        "warning",
        "the queue grows without bound, and searches are planned by statistics that nothing refreshes",
    ),
    Check("replication_role", "error", "rows that such sessions write fire no ordinary trigger"),
    Check("gin_fuzzy_search_limit", "error", "searches by words return some of the rows that match, at random"),
    Check("lost_tables", "error", "the index can be neither searched nor synced"),
    Check("moved_schema", "error", "workers refuse the index until all of it is in one schema"),
    Check("swapped_tables", "error", "the application reads and writes one table, and its index belongs to the other"),
    Check("unlogged", "error", "after a crash of the server it is empty, and its rows are not made again"),
    Check("triggers", "error", "rows that change there keep the vectors of their old text"),
    Check("capture_rights", "error", "the application cannot write to its own table"),
    Check(
        "foreign_keys", "error", "vectors of deleted rows stay, and a key that is used again finds another row's text"
    ),
    Check("columns", "error", "the text of a row cannot be read, so nothing is synced until it can"),
    Check(
        "key_types", "error", "a key that fits the table does not fit its vectors' table, and such a row is not synced"
    ),
    Check("troubles", "error", "the index is not as it should be until a worker succeeds"),
    Check("inheritance", "error", "its rows are not covered by the parent's key, triggers or vectors"),
    Check("late_indexes", "error", "searches read every row until it is there"),
    Check("table_statistics", "warning", "the planner may not use the vector index, or may use it where it should not"),
    Check("term_statistics", "warning", "searches by words rank as if every word were rare"),
    Check("search_functions", "warning", "people at psql and in BI tools cannot search it"),
    Check("worker", "error", "searches find the old text of rows, or do not find them"),
    Check("backlog", "warning", "searches find the old text of these rows, or do not find them"),
    Check("failed_rows", "error", "they are searched by their old text, or not found"),
    Check(
        "rights", "error", "chunks and receipts hold the text of rows, which only roles that can read these should read"
    ),
    Check("worker_rights", "error", "a worker that connects as this role cannot sync the index"),
)
