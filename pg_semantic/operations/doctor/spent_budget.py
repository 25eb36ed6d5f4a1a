"""Detects that the budget of the day for remote encoders is spent, so that backfill waits for the next day."""

from collections.abc import Iterator

import sqlalchemy as sa

from pg_semantic import settings
from pg_semantic.worker import daily_budget, token_usage

NAME = "token_budget"
WHY = "rows that only a backfill reaches stay without vectors; edits are synced"


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Yields subject, what, why and repair if more tokens were sent today than the settings of this process allow."""
    budget = daily_budget.of(settings.load())
    if budget is not None and (said := budget.overspent(token_usage.today_if_readable(connection) or 0)):
        yield "workers", said, WHY, f"Wait, or raise {settings.variable(budget.setting)} for the workers"
