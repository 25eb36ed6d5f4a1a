"""What we read of other libraries that they do not publish is there, in the versions that are installed."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic.compat import alembic_internals, sqlalchemy_internals

NOTE = sa.table("note", sa.column("id"), sa.column("words"))
SELECT = sa.select(NOTE.c.id)


def test_order_by_is_read_in_order() -> None:
    ordered = SELECT.order_by(NOTE.c.words.desc(), NOTE.c.id)
    assert [str(one) for one in sqlalchemy_internals.order_by(ordered)] == ["note.words DESC", "note.id"]
    assert list(sqlalchemy_internals.order_by(SELECT)) == []


def test_group_by_is_noticed() -> None:
    assert sqlalchemy_internals.has_group_by(SELECT.group_by(NOTE.c.id))
    assert not sqlalchemy_internals.has_group_by(SELECT)


@pytest.mark.parametrize(
    ("limited", "expected"),
    [(SELECT, (False, None)), (SELECT.limit(7), (True, 7)), (SELECT.fetch(7), (True, None))],
)
def test_limits_are_read(limited: Any, expected: tuple[bool, int | None]) -> None:
    assert (sqlalchemy_internals.has_limit(limited), sqlalchemy_internals.limit_of(limited)) == expected


@pytest.mark.parametrize("change", [lambda one: one, lambda one: one.with_only_columns(NOTE.c.words)])
def test_options_are_read_from_before_other_columns_were_chosen(change: Callable[[Any], Any]) -> None:
    option = orm.UserDefinedOption()
    assert sqlalchemy_internals.options_of(change(SELECT.options(option))) == [option]


def test_the_tables_of_a_column_are_read() -> None:
    assert sqlalchemy_internals.from_objects(NOTE.c.id) == [NOTE]


def test_a_result_that_repeats_rows_is_noticed() -> None:
    class Base(orm.DeclarativeBase): ...

    class Author(Base):
        __tablename__ = "author"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        books: orm.Mapped[list["Book"]] = orm.relationship()

    class Book(Base):
        __tablename__ = "book"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id"))

    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        for options, repeats in (((), False), ((orm.joinedload(Author.books),), True)):
            assert sqlalchemy_internals.repeats_rows(session.execute(sa.select(Author).options(*options))) is repeats
    engine.dispose()


def test_a_compiled_statement_can_return_other_columns() -> None:
    compiled: Any = SELECT.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    assert compiled._result_columns
    sqlalchemy_internals.return_no_columns(compiled)
    assert compiled._result_columns == []


def test_filters_are_added_to_those_of_the_environment() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        context = AutogenContext(MigrationContext.configure(connection), sa.MetaData())
        alembic_internals.add_filters(
            context, by_name=lambda name, *_: name != "hidden", by_object=lambda _, name, *__: name != "hidden"
        )
        assert [context.run_name_filters(name, "table", {}) for name in ("shown", "hidden")] == [True, False]
        table = sa.Table("hidden", sa.MetaData())
        assert not context.run_object_filters(table, "hidden", "table", False, None)
    engine.dispose()


class _Repeated(sa.ColumnElement[bool]):
    """A condition that is written as the number of tables and conditions of the SELECT that it is in."""

    __visit_name__ = "repeated"
    inherit_cache = True
    type = sa.Boolean()


@compiles(_Repeated)
def _write(_: _Repeated, compiler: SQLCompiler, **__: Any) -> str:
    found = sqlalchemy_internals.enclosing_select(compiler)
    return f"{len(found.froms)} of {len(found.outer_froms)} with {len(found.conditions)}"


def test_the_select_around_an_element_is_known_when_it_is_compiled() -> None:
    inner, outer = sa.table("inner", sa.column("a")), sa.table("outer", sa.column("a"))
    one = sa.select(inner.c.a).where(inner.c.a == outer.c.a, _Repeated()).correlate(outer)
    assert "1 of 1 with 2" in str(sa.select(outer.c.a).where(one.exists()))
    assert "2 of 0 with 2" in str(sa.select(inner.c.a).where(inner.c.a == outer.c.a, _Repeated()))
    assert len(sqlalchemy_internals.conditions(one)) == 2
