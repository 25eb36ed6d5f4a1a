"""Fixtures of the database tests: the shared tables, with many rows."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import database
from tests.conftest import copy_of, template_with
from tests.db.library import execute, sync

MANY = 4000
_WORDS = "harbour candle meadow engine violin glacier pepper lantern anchor thistle walnut copper ribbon saddle marble"
_FILL = """
INSERT INTO article (id, title, lang)
SELECT i, concat_ws(' ', words[1 + hash % 15], words[1 + hash / 15 % 15], words[1 + hash / 225 % 15], i % 97),
       CASE WHEN i % 400 = 0 THEN 'rare' WHEN i % 2 = 0 THEN 'half' ELSE 'en' END
FROM (SELECT i, abs(hashint4(i)) AS hash, string_to_array(:words, ' ') AS words
      FROM generate_series(1, :many) AS i) AS n
"""


def _fill(engine: sa.Engine) -> None:
    execute(engine, _FILL, words=_WORDS, many=MANY)
    sync(engine)
    execute(engine, "ANALYZE")


@pytest.fixture(scope="session")
def _many_articles_template(server: sa.URL, articles_template: str) -> Iterator[str]:
    with template_with(server, articles_template, _fill) as name:
        yield name


@pytest.fixture(scope="module")
def many_articles(server: sa.URL, _many_articles_template: str) -> Iterator[sa.Engine]:
    """Four thousand synced rows, every second of lang ``half``, one in 400 ``rare``; for tests that leave no trace."""
    with copy_of(server, _many_articles_template) as dsn:
        made = database.connect(dsn)
        yield made
        made.dispose()
