"""Mapped classes as people write them, kept in sync: columns of a mixin, table arguments, another schema."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex
from tests.db.library import encoder, execute, jobs, rows, sync


class Base(DeclarativeBase): ...


class Described:
    """A mixin that brings columns and the semantic index over them."""

    name: Mapped[str]
    description: Mapped[str | None]

    semantic = SemanticIndex("name", "description", encoder="hashed:32")


class Tool(Described, Base):
    __tablename__ = "tool"
    __table_args__ = (sa.UniqueConstraint("name"), sa.Index("tool_price_idx", "price"), {"schema": "shop"})

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int] = mapped_column(default=0)


class Animal(Described, Base):
    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def shop(engine: sa.Engine) -> sa.Engine:
    execute(engine, "CREATE SCHEMA shop")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Tool(id=1, name="saw", description="for wood"), Tool(id=2, name="file", description=None)])
        session.add(Animal(id=1, name="saw shark", description="a fish"))
        session.commit()
    return engine


def test_columns_of_a_mixin_are_synced_for_each_class_that_takes_it(shop: sa.Engine) -> None:
    assert sync(shop).rows == 3
    assert rows(shop, "SELECT content FROM shop.tool_semantic ORDER BY id") == [("saw\n\nfor wood",), ("file",)]
    assert rows(shop, "SELECT content FROM animal_semantic") == [("saw shark\n\na fish",)]


def test_only_the_text_of_a_table_with_arguments_in_another_schema_makes_jobs(shop: sa.Engine) -> None:
    sync(shop)
    execute(shop, "UPDATE shop.tool SET price = 5")
    assert jobs(shop) == set()
    execute(shop, "UPDATE shop.tool SET description = 'for metal' WHERE id = 2")
    assert sync(shop).chunks_encoded == 1
    with Session(shop) as session:
        hits = Searcher(encoder()).search(session, Tool.semantic, "metal file", limit=1)
    assert [(hit.entity.name, hit.passage) for hit in hits] == [("file", "file\n\nfor metal")]
