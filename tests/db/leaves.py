"""A table with a partitioned semantic index, for the tests of such indexes."""

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex
from tests.db.library import execute, rows, sync

NAME, INDEX, PARTITIONS = "leaf_semantic", "leaf_semantic_vector_idx", 4
FILES = """
SELECT CAST(CAST(indexrelid AS regclass) AS text), relfilenode
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relname ~ '^leaf_semantic_p[0-9]+_vector_idx$' AND indisvalid
"""
_FILL = """
INSERT INTO leaf
SELECT i, md5(CAST(i AS text)) || ' ' || md5(CAST(i % 7 AS text)),
       CASE WHEN i % 400 = 0 THEN 'rare' WHEN i % 2 = 0 THEN 'half' ELSE 'en' END
FROM generate_series(1, :rows) AS i
"""


class Base(DeclarativeBase): ...


class Leaf(Base):
    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", partitions=PARTITIONS)


class BaseOfTenants(DeclarativeBase): ...


class Deed(BaseOfTenants):
    __tablename__ = "deed"
    tenant: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", lexical=None, partitions=PARTITIONS, partition_by="tenant")


def fill(engine: sa.Engine, *, count: int = 200) -> None:
    """Creates the table with so many synced rows."""
    Base.metadata.create_all(engine)
    execute(engine, _FILL, rows=count)
    sync(engine)


def files(engine: sa.Engine) -> dict[str, int]:
    """The vector indexes of the partitions, and the files that they are in."""
    return dict(rows(engine, FILES))


def is_valid(engine: sa.Engine) -> bool:
    """Whether the index of the whole table has all its parts."""
    [(valid,)] = rows(engine, "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)", name=INDEX)
    return bool(valid)
