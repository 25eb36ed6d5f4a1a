"""Runs the checks on a database, each in its own savepoint, so that one that fails doesn't stop the others."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors
from pg_semantic.database import transaction
from pg_semantic.operations.doctor import build_memory, missed_recall, missing_prompts, pooler, spent_budget
from pg_semantic.operations.doctor.checks import CHECKS, Check, Severity

LONG_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that a check found.

    Attributes:
        check: The name of the check.
        subject: What has the problem: an index, a table, a role.
        what: What is wrong.
        why: Why it matters.
        repair: SQL or a ``pg-semantic`` command that fixes it, as one line to copy.
    """

    check: str
    severity: Severity
    subject: str
    what: str
    why: str
    repair: str


def examine(engine: sa.Engine, *, ignore: Collection[str] = (), long_seconds: float = LONG_SECONDS) -> list[Finding]:
    """Runs every check on a database. Takes milliseconds, and only reads: the catalogs and the schema ``semantic``.

    Args:
        engine: Connects to the database as the role of the workers, whose privileges it checks too.
        ignore: Names of checks to leave out.
        long_seconds: An open transaction, or a waiting edit, of this age is a finding.

    Returns:
        The findings, in the best order for repairs. Empty for a healthy database. A check that the role may not run
        is a finding too.

    Raises:
        errors.NotInstalled: The database lacks pgvector or the schema ``semantic`` of this version.
        errors.ConfigurationError: ``ignore`` names an unknown check.
        errors.DatabaseError: The database does not answer.
    """
    others = (pooler, missing_prompts, missed_recall, build_memory, spent_budget)
    known = [*(check.name for check in CHECKS), *(other.NAME for other in others)]
    if unknown := sorted(set(ignore).difference(known)):
        raise errors.ConfigurationError(f"Unknown check: {', '.join(unknown)}. The checks are: {', '.join(known)}.")
    with database.translated(), transaction.begin(engine) as connection:
        database.require_installed(connection)
        found = [
            finding for check in CHECKS if check.name not in ignore for finding in _run(connection, check, long_seconds)
        ]
        for other in others:
            if other.NAME not in ignore:
                found += [Finding(other.NAME, "warning", *said) for said in other.findings(connection)]
    return found


def _run(connection: sa.Connection, check: Check, long_seconds: float) -> Iterator[Finding]:
    binds = {"seconds": long_seconds} if "seconds" in check.statement.compile().params else {}
    try:
        with connection.begin_nested():
            rows = connection.execute(check.statement, binds).all()
    except exc.DBAPIError as error:
        if database.is_connection_lost(error):
            raise
        yield Finding(
            check.name,
            "warning",
            "doctor",
            f"this check could not be run: {database.translate(error)}",
            check.why,
            "Run it as the owner of the schema semantic, or leave it out: pg-semantic doctor --ignore " + check.name,
        )
        return
    for subject, what, repair in rows:
        yield Finding(check.name, check.severity, subject, what, check.why, repair)
