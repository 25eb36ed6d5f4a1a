"""Fixes what `verify` finds: marks rows for the worker, deletes orphans, and adds missing triggers.

Each page is one short transaction. It marks a row before it deletes the row's chunks or receipt, so that a worker
that has claimed the row writes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic import jobqueue, sql
from pg_semantic.database import transaction
from pg_semantic.index import ddl, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.operations import verify, verify_prefixes
from pg_semantic.operations.verify import CheckedPage, RowFinding, VerifyReport
from pg_semantic.registry import Generation
from pg_semantic.worker import compare_text_hashes

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
    """Repairs a semantic index and reports what it found. A worker then encodes the rows that were marked.

    If a sample has wrong prefixes, computes all of them again; the report says how many were wrong.

    Leaves parked rows to `jobqueue.retry`. Raises `errors.DatabaseError` if triggers are missing and their table stays
    in use for longer than `semantic.lock_tables_v1` waits.
    """
    if generation.gone:
        return VerifyReport(generation.title, problem=generation.problem)
    clear(engine, generation)
    transaction.patiently(
        engine, sql.statement("registry", "restore_foreign_keys").bindparams(index=generation.index_id)
    )
    tables = generation.tables
    report = VerifyReport(generation.title, uncaptured=verify.uncaptured(engine, tables), problem=generation.problem)
    if report.uncaptured:
        _create_triggers(engine, generation, enable=True)  # first, so that no change is missed while rows are compared
    for page in verify.pages(engine, generation.id, tables):
        transaction.patiently(engine, *repair_statements(page.findings, generation, tables))
        report.rows += page.rows
        for finding in page.findings:
            report.add(finding, keys_shown=keys_shown)
        on_page(page)
    if verify_prefixes.wrong(engine, generation):
        report.prefixes = verify_prefixes.correct(engine, generation)
    return report


def clear(engine: sa.Engine, generation: Generation) -> list[str]:
    """Forgets the other generations of an index whose tables were dropped by hand.

    Returns:
        The roles that they had, such as ``next``.
    """
    with transaction.begin(engine) as connection:
        binds = {"generation": generation.id}
        roles: list[str] = connection.scalar(sql.statement("registry", "forget_ghosts"), binds) or []
    if roles:
        _create_triggers(engine, generation)  # so that writers stop marking rows for them
    return roles


def _create_triggers(engine: sa.Engine, generation: Generation, *, enable: bool = False) -> None:
    with transaction.begin(engine) as connection:
        for step in ddl.create_triggers(generation.spec, enable=enable):
            connection.execute(step)


def repair_statements(
    findings: Sequence[RowFinding], generation: Generation, tables: Tables
) -> Iterator[sa.Executable]:
    """Yields the statements that repair a page, in the order to execute them.

    Args:
        findings: What `verify.pages` found in the page.
        generation: The generation to repair.
        tables: Its tables.
    """
    marked = [finding.key for finding in findings if finding.kind in _MARKED]
    rewritten = [finding.key for finding in findings if finding.kind in _REWRITTEN]
    orphans = [finding.key for finding in findings if finding.kind == "orphan"]
    if marked:
        yield jobqueue.requeueing(generation.id, marked)
    if rewritten:
        yield _delete(tables.receipts, rewritten, key=tables.receipt_key, where=sa.true())
        yield _delete(tables.chunks, rewritten, key=tables.chunk_key, where=compare_text_hashes.damaged(tables))
    if orphans:
        for table, key in ((tables.receipts, tables.receipt_key), (tables.chunks, tables.chunk_key)):
            yield _delete(table, orphans, key=key, where=compare_text_hashes.without_row(tables, key))


def _delete(table: sa.Table, row_keys: Sequence[str], *, key: Key, where: sa.ColumnElement[bool]) -> sa.Delete:
    wanted = keys.key_table(row_keys, len(key))
    return sa.delete(table).where(keys.matches_key_table(wanted, key), where)
