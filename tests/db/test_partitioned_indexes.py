"""Semantic indexes whose chunk table is partitioned by the hash of the key."""

import dataclasses
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import SemanticIndex, database, search
from tests.conftest import copy_of
from tests.db.library import encoder, execute, generation_of, rows, sync

NAME, PARTITIONS, ROWS = "leaf_semantic", 4, 4000


class Base(orm.DeclarativeBase): ...


class Leaf(Base):
    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", partitions=PARTITIONS)


FILL = """
INSERT INTO leaf SELECT i, md5(CAST(i AS text)) || ' ' || md5(CAST(i % 7 AS text)),
       CASE WHEN i % 400 = 0 THEN 'rare' WHEN i % 2 = 0 THEN 'half' ELSE 'en' END
FROM generate_series(1, :rows) AS i
"""


@pytest.fixture(scope="module")
def leaves(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        execute(engine, FILL, rows=ROWS)
        sync(engine)
        yield engine
        engine.dispose()


def test_scratch(leaves: sa.Engine) -> None:
    for row in rows(leaves, "select c.relname, c.relkind, i.indisvalid, c.reltuples from pg_class c left join pg_index i on indexrelid=c.oid where relname like 'leaf%' order by 1"):
        print(row)
    print(rows(leaves, "select * from semantic.vector_index_build"))
    print(rows(leaves, "select * from semantic.problem"))
    print(rows(leaves, "select * from semantic.index_status"))
    vector = encoder().encode_queries(["violin glacier"])[0]
    with Session(leaves) as session:
        for statement in (search.knn(Leaf.semantic, vector), search.knn(Leaf.semantic, vector).where(Leaf.lang=="half"), search.exact(Leaf.semantic, vector), search.hybrid(Leaf.semantic, vector, "violin", depth=10)):
            plan = search.explain(session, statement)
            print(plan, plan.uses_vector_index, plan.reasons)
