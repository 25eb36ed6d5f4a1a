"""Fixtures of the database tests: the shared tables, created."""

import pytest
import sqlalchemy as sa

from tests.db.library import Base


@pytest.fixture
def articles(engine: sa.Engine) -> sa.Engine:
    """A database with the table article and its semantic index, both empty."""
    Base.metadata.create_all(engine)
    return engine
