"""The database: connections, transactions, translation of driver errors, and revisions of the schema `semantic`."""

from pg_semantic.database.connection import (
    MINIMUM_PGVECTOR,
    MINIMUM_POSTGRES,
    NO_REVISION,
    connect,
    qualified_name,
    require_installed,
    require_pgvector,
    require_pgvector_found,
)
from pg_semantic.database.driver_errors import (
    cause,
    fault,
    is_busy_or_slow,
    is_canceled,
    is_connection_lost,
    is_short_of_resources,
    lock_refusal,
    reason,
    refusal,
    refusal_of_others,
    sqlstate,
    translate,
    translated,
)
from pg_semantic.database.encodings import searchable, storable

__all__ = [
    "MINIMUM_PGVECTOR",
    "MINIMUM_POSTGRES",
    "NO_REVISION",
    "cause",
    "connect",
    "fault",
    "is_busy_or_slow",
    "is_canceled",
    "is_connection_lost",
    "is_short_of_resources",
    "lock_refusal",
    "qualified_name",
    "reason",
    "refusal",
    "refusal_of_others",
    "require_installed",
    "require_pgvector",
    "require_pgvector_found",
    "searchable",
    "sqlstate",
    "storable",
    "translate",
    "translated",
]
