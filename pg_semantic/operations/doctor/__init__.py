"""Finds problems in a database before people notice them: privileges, triggers, keys, versions, workers.

`examine` runs every check of `checks`. A check is a query, and each row that it returns is a finding. Whether each
vector matches its row's text is not checked here: that is what ``pg-semantic verify`` does.
"""

from pg_semantic.operations.doctor.checks import Severity
from pg_semantic.operations.doctor.run_checks import LONG_SECONDS, Finding, examine

__all__ = ["LONG_SECONDS", "Finding", "Severity", "examine"]
