"""Finds what is wrong with a database before a person notices: privileges, triggers, keys, versions, workers.

`examine` runs every check of `checks`; a check is a query, and its rows are findings. What the rows themselves say,
whether each vector is true to its text, is for ``pg-semantic verify``.
"""

from pg_semantic.operations.doctor.checks import Severity
from pg_semantic.operations.doctor.run_checks import LONG_SECONDS, Finding, examine

__all__ = ["LONG_SECONDS", "Finding", "Severity", "examine"]
