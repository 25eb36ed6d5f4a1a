"""Checks that vectors match the text: compares, in SQL and page by page, what is stored with the rows as they are now.

Each page is one statement, and so one snapshot, in which a row that is out of date should have a job. If it has none,
the protocol was violated or bypassed: a partition was attached, a trigger disabled, or a chunk table edited by hand.
No text leaves the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.operations import verify_prefixes
from pg_semantic.registry import Generation
from pg_semantic.worker import compare_text_hashes, key_ranges

Kind = Literal["missing", "stale", "damaged", "wrong_encoder", "orphan", "failed", "waiting"]

PAGE_ROWS = 1_000
_ORPHAN_ROWS = 10_000  # which are only looked up


@dataclass(frozen=True, slots=True)
class RowFinding:
    """A row whose vectors don't match its text.

    Attributes:
        kind: ``missing``: the row has text that was never synced. ``stale``: it was synced with older text, or its
            ``policy_column`` column has changed since. ``damaged``: its chunks don't match its receipt, or its lexemes
            don't match its text. ``wrong_encoder``: a chunk comes from another encoder. ``orphan``: chunks or a
            receipt without a row. ``failed``: out of date, and its job is parked. ``waiting``: out of date, and a
            worker will encode it.
        key: The key of the row, as text.
    """

    kind: Kind
    key: str


@dataclass(slots=True)
class VerifyReport:
    """What was found in one semantic index: how many rows of each kind (see `RowFinding`).

    Attributes:
        rows: How many rows were compared.
        uncaptured: The tables, the source or its partitions, whose triggers are missing or disabled.
        prefixes: How many chunks, of a sample of 1,000, have a prefix that is not that of their vector, or have none.
        problem: Why the index could not be verified.
        keys: The first few keys of each kind.
    """

    index: str
    rows: int = 0
    missing: int = 0
    stale: int = 0
    damaged: int = 0
    wrong_encoder: int = 0
    orphan: int = 0
    failed: int = 0
    waiting: int = 0
    uncaptured: list[str] = field(default_factory=list)
    prefixes: int = 0
    problem: str | None = None
    keys: dict[Kind, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether the vectors of every row match its text, or the row is waiting for a worker."""
        found = (self.missing, self.stale, self.damaged, self.wrong_encoder, self.orphan, self.failed, self.prefixes)
        return not any(found) and not self.uncaptured and self.problem is None

    def add(self, finding: RowFinding, *, keys_shown: int) -> None:
        """Counts a finding, and keeps its key unless ``keys_shown`` of its kind are kept already."""
        setattr(self, finding.kind, getattr(self, finding.kind) + 1)
        shown = self.keys.setdefault(finding.kind, [])
        if len(shown) < keys_shown:
            shown.append(finding.key)


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """A part of a table that was compared: how many rows it has, and what was found."""

    rows: int
    findings: list[RowFinding]


def verify(
    engine: sa.Engine,
    generation: Generation,
    *,
    keys_shown: int = 10,
    sister: Tables | None = None,
    on_page: Callable[[CheckedPage], None] = lambda _: None,
) -> VerifyReport:
    """Checks every row, chunk and receipt of a semantic index. Changes nothing.

    Reads all text of the source inside the database. Each page is a separate statement, so it doesn't hold up vacuum.

    Args:
        engine: Connects to the database.
        generation: The generation to verify.
        keys_shown: How many keys of each kind the report keeps.
        sister: As in `compare_text_hashes.out_of_date`.
        on_page: Called after each page.
    """
    tables = generation.tables
    if generation.gone:
        return VerifyReport(generation.title, problem=generation.problem)
    report = VerifyReport(generation.title, uncaptured=uncaptured(engine, tables), problem=generation.problem)
    for page in pages(engine, generation.id, tables, sister=sister):
        report.rows += page.rows
        for finding in page.findings:
            report.add(finding, keys_shown=keys_shown)
        on_page(page)
    report.prefixes = verify_prefixes.wrong(engine, generation)
    return report


def uncaptured(engine: sa.Engine, tables: Tables) -> list[str]:
    """Returns the tables, the source or its partitions, whose capture triggers are missing or disabled."""
    name = database.qualified_name(tables.source.schema, tables.source.name)
    statement = sql.statement("registry", "uncaptured").bindparams(source=name, stem=tables.spec.capture_name)
    return [relation for (relation,) in transaction.patiently(engine, statement)]


def pages(
    engine: sa.Engine, generation_id: int, tables: Tables, *, sister: Tables | None = None
) -> Iterator[CheckedPage]:
    """Yields what doesn't match, page by page: first the rows of the source, then chunks and receipts without a row."""
    for part in key_ranges.ranges(engine, tables.source_key, rows=PAGE_ROWS):
        kinds = transaction.patiently(
            engine, compare_text_hashes.out_of_date(generation_id, tables, part, sister=sister)
        )
        findings = [RowFinding(row.kind, key) for row in kinds if row.kind for key in row.keys]
        yield CheckedPage(sum(row.rows for row in kinds), findings)
    for table, key in ((tables.chunks, tables.chunk_key), (tables.receipts, tables.receipt_key)):
        for part in key_ranges.ranges(engine, key, rows=_ORPHAN_ROWS):
            found = transaction.patiently(engine, compare_text_hashes.orphans(tables, table, part))
            yield CheckedPage(0, [RowFinding("orphan", row.key) for row in found])
