"""Are the vectors true to the text? Compares, in SQL and page by page, what is stored with what the rows say now.

Each page is one statement and so one snapshot: a row that is out of date has a job in it, or the protocol was broken
(or gone around: a partition attached, a trigger disabled, a chunk table edited by hand). No text leaves the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.registry import Generation
from pg_semantic.worker import comparison, key_ranges

Kind = Literal["missing", "stale", "damaged", "wrong_encoder", "orphan", "failed", "waiting"]

PAGE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class RowFinding:
    """A row whose vectors are not true to its text, and in what way.

    missing: it has text and was never synced. stale: it was synced with another text, or what is
    stored of it says otherwise than the row in the column that ``rights_by`` names. damaged: its chunks are not those
    that its receipt speaks of. wrong_encoder: a chunk says that another encoder made it. orphan: chunks or a receipt
    without a row. failed: out of date, and its job is parked. waiting: out of date, and a worker will see to it.
    """

    kind: Kind
    key: str


@dataclass(slots=True)
class VerifyReport:
    """What was found out about one semantic index; ``keys`` has the first few keys of each kind.

    ``uncaptured`` are the tables, the source or partitions of it, on which triggers are missing or disabled;
    ``trouble`` is why the index could not be looked at.
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
    trouble: str | None = None
    keys: dict[Kind, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every row is true to its text or waits for a worker."""
        found = (self.missing, self.stale, self.damaged, self.wrong_encoder, self.orphan, self.failed)
        return not any(found) and not self.uncaptured and self.trouble is None

    def add(self, finding: RowFinding, *, keys_shown: int) -> None:
        """Counts a finding."""
        setattr(self, finding.kind, getattr(self, finding.kind) + 1)
        shown = self.keys.setdefault(finding.kind, [])
        if len(shown) < keys_shown:
            shown.append(finding.key)


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """A stretch of the table that was looked at."""

    rows: int
    findings: list[RowFinding]


def verify(
    engine: sa.Engine,
    generation: Generation,
    *,
    keys_shown: int = 10,
    on_page: Callable[[CheckedPage], None] = lambda _: None,
) -> VerifyReport:
    """Looks at every row, chunk and receipt of a semantic index and changes nothing.

    Reads all of the source's text inside the database; a page is a statement of its own, so vacuum is not held up.
    """
    tables = generation.tables
    if generation.gone:
        return VerifyReport(generation.title, trouble=generation.trouble)
    report = VerifyReport(generation.title, uncaptured=uncaptured(engine, tables), trouble=generation.trouble)
    for page in pages(engine, generation.id, tables):
        report.rows += page.rows
        for finding in page.findings:
            report.add(finding, keys_shown=keys_shown)
        on_page(page)
    return report


def uncaptured(engine: sa.Engine, tables: Tables) -> list[str]:
    """The tables, the source or partitions of it, on which triggers of the capture are missing or disabled."""
    name = database.qualified_name(tables.source.schema, tables.source.name)
    statement = sql.statement("registry", "uncaptured").bindparams(source=name, stem=tables.spec.capture_name)
    return [relation for (relation,) in transaction.patiently(engine, statement)]


def pages(engine: sa.Engine, generation_id: int, tables: Tables) -> Iterator[CheckedPage]:
    """Everything that is not as it should be, page by page: first the rows, then what has no row."""
    for part in key_ranges.ranges(engine, tables.source_key, rows=PAGE_ROWS):
        kinds = transaction.patiently(engine, comparison.out_of_date(generation_id, tables, part))
        findings = [RowFinding(row.kind, key) for row in kinds if row.kind for key in row.keys]
        yield CheckedPage(sum(row.rows for row in kinds), findings)
    for table, key in ((tables.chunks, tables.chunk_key), (tables.receipts, tables.receipt_key)):
        for part in key_ranges.ranges(engine, key, rows=PAGE_ROWS):
            found = transaction.patiently(engine, comparison.orphans(tables, table, part))
            yield CheckedPage(0, [RowFinding("orphan", row.key) for row in found])
