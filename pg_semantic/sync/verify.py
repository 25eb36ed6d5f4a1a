"""Are the vectors true to the text? Compares, in SQL and page by page, what is stored with what the rows say now.

Each page is one statement and so one snapshot: a row that is out of date has a job in it, or the protocol was broken
(or gone around: a partition attached, a trigger disabled, a chunk table edited by hand). No text leaves the database.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
import tenacity
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import LateralFromClause

from pg_semantic import database, keys, schema, sql
from pg_semantic.registry import Generation
from pg_semantic.schema import Tables
from pg_semantic.sync import paging, transaction
from pg_semantic.sync.paging import Range

Kind = Literal["missing", "stale", "damaged", "wrong_encoder", "orphan", "failed", "waiting"]

PAGE_ROWS = 1_000
_PATIENCE_SECONDS = 30.0

_JOBS = sa.table(
    "job", sa.column("generation_id"), sa.column("key", sa.Text), sa.column("state", sa.Text), schema="semantic"
)
_MARKS = sa.table("mark", sa.column("generation_id"), sa.column("key", sa.Text), schema="semantic")
_GENERATIONS = sa.table("generation", sa.column("id"), sa.column("backfilled_at"), schema="semantic")


@dataclass(frozen=True, slots=True)
class Finding:
    """A row whose vectors are not true to its text, and in what way.

    missing: it has text and was never synced. stale: it was synced with another text. damaged: its chunks are not those
    that its receipt speaks of. wrong_encoder: a chunk says that another encoder made it. orphan: chunks or a receipt
    without a row. failed: out of date, and its job is parked. waiting: out of date, and a worker will see to it.
    """

    kind: Kind
    key: str


@dataclass(slots=True)
class Report:
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

    def add(self, finding: Finding, *, keys_shown: int) -> None:
        """Counts a finding."""
        setattr(self, finding.kind, getattr(self, finding.kind) + 1)
        shown = self.keys.setdefault(finding.kind, [])
        if len(shown) < keys_shown:
            shown.append(finding.key)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the table that was looked at."""

    rows: int
    findings: list[Finding]


def verify(
    engine: sa.Engine,
    generation: Generation,
    *,
    keys_shown: int = 10,
    on_page: Callable[[Page], None] = lambda _: None,
) -> Report:
    """Looks at every row, chunk and receipt of a semantic index and changes nothing.

    Reads all of the source's text inside the database; a page is a statement of its own, so vacuum is not held up.
    """
    tables = schema.build(generation.spec)
    report = Report(generation.qualified_name, uncaptured=uncaptured(engine, tables))
    for page in pages(engine, generation.id, tables):
        report.rows += page.rows
        for finding in page.findings:
            report.add(finding, keys_shown=keys_shown)
        on_page(page)
    return report


def uncaptured(engine: sa.Engine, tables: Tables) -> list[str]:
    """The tables, the source or partitions of it, on which triggers of the capture are missing or disabled."""
    name = database.qualified_name(tables.source.schema, tables.source.name)
    with transaction.begin(engine) as connection:
        binds = {"source": name, "stem": tables.spec.capture_name}
        return list(connection.scalars(sql.statement("registry", "uncaptured"), binds))


def pages(engine: sa.Engine, generation_id: int, tables: Tables) -> Iterator[Page]:
    """Everything that is not as it should be, page by page: first the rows, then what has no row."""
    for part in paging.ranges(engine, tables.source_key, rows=PAGE_ROWS):
        kinds = patiently(engine, _out_of_date(generation_id, tables, part))
        findings = [Finding(row.kind, key) for row in kinds if row.kind for key in row.keys]
        yield Page(sum(row.rows for row in kinds), findings)
    for table, key in ((tables.chunks, tables.chunk_key), (tables.receipts, tables.receipt_key)):
        for part in paging.ranges(engine, key, rows=PAGE_ROWS):
            found = patiently(engine, _orphans(tables, table, part))
            yield Page(0, [Finding("orphan", row.key) for row in found])


@tenacity.retry(
    retry=tenacity.retry_if_exception(lambda error: isinstance(error, exc.DBAPIError) and transaction.is_busy(error)),
    wait=tenacity.wait_random_exponential(0.05, 1.0),
    stop=tenacity.stop_after_delay(_PATIENCE_SECONDS),
    reraise=True,
)
def patiently(engine: sa.Engine, *statements: sa.Executable) -> list[Any]:
    """Runs statements in one transaction, again when a table was locked; gives the rows of the last that has any."""
    found: list[Any] = []
    with transaction.begin(engine) as connection:
        for statement in statements:
            result = connection.execute(statement)
            found = list(result) if result.returns_rows else found
    return found


def damaged(tables: Tables) -> sa.ColumnElement[bool]:
    """The condition that a chunk is not what its provenance says."""
    chunks = tables.chunks.c
    return sa.or_(
        chunks.encoder_id != tables.spec.encoder.id, schema.source_hash(chunks.content) != chunks.content_hash
    )


def without_row(tables: Tables, key: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """The condition that a key of the chunk or receipt table is of no row."""
    return ~sa.exists().where(*(a == b for a, b in zip(tables.source_key, key, strict=True)))


def _out_of_date(generation_id: int, tables: Tables, part: Range) -> sa.Select[Any]:
    """Rows of a range by kind; a kind of NULL is that of rows that are right."""
    compared = _compared(generation_id, tables, part).subquery("compared")
    restarts = sa.exists().where(_MARKS.c.generation_id == generation_id, _MARKS.c.key.is_(None))
    unfinished = sa.or_(_GENERATIONS.c.backfilled_at.is_(None), restarts)
    backfilling = sa.select(unfinished).where(_GENERATIONS.c.id == generation_id)
    kind = sa.case(
        (compared.c.fault.is_(None), sa.null()),
        (compared.c.job == "failed", "failed"),
        (compared.c.job.is_not(None), "waiting"),
        (sa.and_(compared.c.fault.in_(["missing", "stale"]), backfilling.scalar_subquery()), "waiting"),
        else_=compared.c.fault,
    ).label("kind")
    counted = sa.func.count().label("rows")
    return sa.select(
        kind,
        counted,
        sa.func.array_agg(aggregate_order_by(compared.c.key, compared.c.key))
        .filter(kind.element.is_not(None))
        .label("keys"),
    ).group_by(kind)


def _compared(generation_id: int, tables: Tables, part: Range) -> sa.Select[Any]:
    """Every row of a range with what is wrong with it, or NULL, and the state of its job."""
    receipt, key = tables.receipts.c, keys.as_text(tables.source_key)
    digest = schema.source_hash(text := schema.text_of(tables.spec, tables.source))
    stored = _stored(tables)
    fault = sa.case(
        (sa.and_(receipt.source_hash.is_(None), text != ""), "missing"),
        (receipt.source_hash != digest, "stale"),
        (stored.c.foreign_encoder, "wrong_encoder"),
        (sa.or_(stored.c.chunks != sa.func.coalesce(receipt.chunk_count, 0), stored.c.altered), "damaged"),
    )
    same_job = sa.and_(_JOBS.c.generation_id == generation_id, _JOBS.c.key == key)
    marked = sa.exists().where(_MARKS.c.generation_id == generation_id, _MARKS.c.key == key)
    job = sa.case((marked, "pending"), else_=_JOBS.c.state)
    return (
        sa.select(key.label("key"), fault.label("fault"), job.label("job"))
        .select_from(tables.source)
        .outerjoin(tables.receipts, sa.and_(*map(operator.eq, tables.receipt_key, tables.source_key)))
        .outerjoin(_JOBS, same_job)
        .join(stored, sa.true())
        .where(part.of(tables.source_key))
    )


def _stored(tables: Tables) -> LateralFromClause:
    """What is stored of a row: how many chunks, and whether any is not what it says."""
    chunks = tables.chunks.c
    altered = schema.source_hash(chunks.content) != chunks.content_hash
    foreign = chunks.encoder_id != tables.spec.encoder.id
    return (
        sa.select(
            sa.func.count().label("chunks"),
            sa.func.coalesce(sa.func.bool_or(altered), sa.false()).label("altered"),
            sa.func.coalesce(sa.func.bool_or(foreign), sa.false()).label("foreign_encoder"),
        )
        .where(*map(operator.eq, tables.chunk_key, tables.source_key))
        .correlate(tables.source)
        .lateral("stored")
    )


def _orphans(tables: Tables, table: sa.Table, part: Range) -> sa.Select[Any]:
    """Keys in the chunk table that have no row, or those in the receipt table that are not found there."""
    key = [table.c[column.name] for column in tables.spec.key]
    orphans = sa.select(keys.as_text(key).label("key")).where(part.of(key), without_row(tables, key)).distinct()
    orphans = orphans.order_by("key")
    if table is tables.receipts:
        orphans = orphans.where(~sa.exists().where(*map(operator.eq, tables.chunk_key, key)))
    return orphans
