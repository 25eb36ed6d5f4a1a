"""Fixtures of the database tests: the shared tables, created."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import database
from tests.conftest import copy_of
from tests.db.library import Base, execute, sync

MANY = 4000
_WORDS = "harbour candle meadow engine violin glacier pepper lantern anchor thistle walnut copper ribbon saddle marble"
_FILL = """
INSERT INTO article (id, title, lang)
SELECT i, concat_ws(' ', words[1 + hash % 15], words[1 + hash / 15 % 15], words[1 + hash / 225 % 15], i % 97),
       CASE WHEN i % 400 = 0 THEN 'rare' WHEN i % 2 = 0 THEN 'half' ELSE 'en' END
FROM (SELECT i, abs(hashint4(i)) AS hash, string_to_array(:words, ' ') AS words
      FROM generate_series(1, :many) AS i) AS n
"""


@pytest.fixture
def articles(engine: sa.Engine) -> sa.Engine:
    """A database with the table article and its semantic index, both empty."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture(scope="module")
def many_articles(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Four thousand synced rows, every second of lang ``half``, one in 400 ``rare``; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        made = database.connect(dsn)
        Base.metadata.create_all(made)
        execute(made, _FILL, words=_WORDS, many=MANY)
        sync(made)
        execute(made, "ANALYZE")
        yield made
        made.dispose()
