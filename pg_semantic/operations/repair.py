"""Mends what `verify` finds: marks rows for the worker, deletes what has no row, hangs capture where it is missing.

A page is one short transaction. A row is marked before anything of it is deleted, so a worker that is at it writes
nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic import jobqueue, sql
from pg_semantic.database import transaction
from pg_semantic.index import ddl, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.operations import verify
from pg_semantic.operations.verify import CheckedPage, RowFinding, VerifyReport
from pg_semantic.registry import Generation
from pg_semantic.worker import comparison

Key = Sequence[sa.ColumnElement[Any]]

_MARKED = {"missing", "stale", "damaged", "wrong_encoder"}
_REWRITTEN = {"damaged", "wrong_encoder"}


def repair(
    engine: sa.Engine,
    generation: Generation,
    *,
    keys_shown: int = 10,
    on_page: Callable[[CheckedPage], None] = lambda _: None,
) -> VerifyReport:
    """Mends a semantic index and reports what there was to mend; a worker then encodes the rows that it marked.

    Parked rows are left alone: they are for `jobqueue.retry`. Raises `errors.DatabaseError` when triggers are missing
    and others use their table all the time (`semantic.lock_v1` says how long it is waited for).
    """
    if generation.gone:
        return VerifyReport(generation.title, trouble=generation.trouble)
    clear(engine, generation)
    transaction.patiently(
        engine, sql.statement("registry", "restore_foreign_keys").bindparams(index=generation.index_id)
    )
    tables = generation.tables
    report = VerifyReport(generation.title, uncaptured=verify.uncaptured(engine, tables), trouble=generation.trouble)
    if report.uncaptured:
        _hang(engine, generation, enable=True)  # first, so that nothing slips by while rows are looked at
    for page in verify.pages(engine, generation.id, tables):
        transaction.patiently(engine, *mending(page.findings, generation, tables))
        report.rows += page.rows
        for finding in page.findings:
            report.add(finding, keys_shown=keys_shown)
        on_page(page)
    return report


def clear(engine: sa.Engine, generation: Generation) -> list[str]:
    """Forgets other copies of its index whose tables were dropped by hand; gives the roles that they had."""
    with transaction.begin(engine) as connection:
        binds = {"generation": generation.id}
        roles: list[str] = connection.scalar(sql.statement("registry", "forget_ghosts"), binds) or []
    if roles:
        _hang(engine, generation)  # so that writers mark no more rows for them
    return roles


def _hang(engine: sa.Engine, generation: Generation, *, enable: bool = False) -> None:
    with transaction.begin(engine) as connection:
        for step in ddl.create_triggers(generation.spec, enable=enable):
            connection.execute(step)


def mending(findings: Sequence[RowFinding], generation: Generation, tables: Tables) -> Iterator[sa.Executable]:
    """The statements that mend a page, in their order."""
    marked = [finding.key for finding in findings if finding.kind in _MARKED]
    rewritten = [finding.key for finding in findings if finding.kind in _REWRITTEN]
    orphans = [finding.key for finding in findings if finding.kind == "orphan"]
    if marked:
        yield jobqueue.requeueing(generation.id, marked)
    if rewritten:
        yield _delete(tables.receipts, rewritten, key=tables.receipt_key, where=sa.true())
        yield _delete(tables.chunks, rewritten, key=tables.chunk_key, where=comparison.damaged(tables))
    if orphans:
        for table, key in ((tables.receipts, tables.receipt_key), (tables.chunks, tables.chunk_key)):
            yield _delete(table, orphans, key=key, where=comparison.without_row(tables, key))


def _delete(table: sa.Table, row_keys: Sequence[str], *, key: Key, where: sa.ColumnElement[bool]) -> sa.Delete:
    wanted = keys.key_table(row_keys, len(key))
    return sa.delete(table).where(keys.matches_key_table(wanted, key), where)
