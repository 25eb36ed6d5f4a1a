"""Finds the semantic index that a command names."""

from typing import Any

from sqlalchemy import orm

from pg_semantic import registry
from pg_semantic.database import own_transaction
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex


def find(session: orm.Session, name: str) -> BoundIndex[Any]:
    """Returns an index by its name, as it is live. Leaves no transaction open.

    Raises:
        errors.IndexNotFound: There is no such index.
    """
    with own_transaction.reading(session):
        return declare.bind(registry.find(session.connection(), name).spec)
