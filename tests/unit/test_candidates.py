"""The first stage of a `knn` on a compressed index, as text: it has all joins and filters of the statement."""

import re

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from pg_semantic import Compressed, SemanticIndex, search
from pg_semantic.search import short_results
from tests.unit.statement_text import text

VECTOR = [1.0, 0.0, 0.0]
PLACE = "(note_semantic.id, note_semantic.ordinal) IN"


class Base(DeclarativeBase): ...


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(sa.ForeignKey("note.id"))


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    body: Mapped[str]
    author: Mapped[Author] = orm.relationship()
    tags: Mapped[list[Tag]] = orm.relationship()
    semantic = SemanticIndex("body", encoder="hashed:3", storage=Compressed(prefix=2))
    signs = SemanticIndex("body", encoder="hashed:3", storage=Compressed(bits=True))


def stages(statement: "sa.Select[Note, float]") -> tuple[str, str]:
    """What is before the first stage, and the first stage with what follows."""
    [before, after] = text(statement).split(PLACE)
    return before, after


def test_filters_and_joins_that_are_added_later_are_in_both_stages() -> None:
    statement = search.knn(Note.semantic, VECTOR, limit=5).join(Note.author).where(Author.name == "Ada")
    before, after = stages(statement)
    first, second = after.split("LIMIT coalesce(semantic.candidates_v1(")
    assert "JOIN author ON author.id = note.author_id" in before
    assert "JOIN author ON author.id = note.author_id" in first
    assert "author.name = " in first
    assert "author.name = " in second
    assert "ORDER BY note_semantic.prefix <=> (SELECT CASE" in first
    assert "ORDER BY (note_semantic.vector <=> " in second


def test_the_query_is_rotated_for_the_first_stage_only() -> None:
    before, after = stages(search.knn(Note.semantic, VECTOR))
    assert "rotated_v1" not in before
    assert after.count("semantic.rotated_v1(") == 1


def test_signs_are_compared_by_hamming_distance() -> None:
    said = text(search.knn(Note.signs, VECTOR))
    assert "ORDER BY CAST(binary_quantize(note_signs.vector) AS BIT(3)) <~> (SELECT CASE" in said


def test_an_exact_search_has_no_first_stage() -> None:
    said = text(short_results.exactly(search.knn(Note.semantic, VECTOR)))
    assert PLACE not in said
    assert "candidates_v1" not in said
    assert "note_semantic_1.ordinal = note_semantic.ordinal" in said


@pytest.mark.parametrize("loading", [orm.joinedload(Note.tags), orm.selectinload(Note.tags)])
def test_a_collection_that_is_loaded_too_does_not_change_the_first_stage(loading: orm.interfaces.ORMOption) -> None:
    def first(statement: "sa.Select[Note, float]") -> str:
        return re.sub(r"\d+", "N", stages(statement)[1].split("LIMIT coalesce(semantic.candidates_v1(")[0])

    assert first(search.knn(Note.semantic, VECTOR).options(loading)) == first(search.knn(Note.semantic, VECTOR))


def test_a_search_within_a_larger_statement_refers_to_that_in_both_stages() -> None:
    outer = aliased(Author)
    nearest = search.knn(Note.semantic, VECTOR, limit=1).where(Note.author_id == outer.id).correlate(outer).lateral()
    before, after = text(sa.select(outer.id, nearest.c.id).join(nearest, sa.true())).split(PLACE)
    first = after.split("LIMIT coalesce(semantic.candidates_v1(")[0]
    assert "note.author_id = author_1.id" in first
    assert "author AS author_1" not in first
    assert before.count("author AS author_1") == 1


def test_all_chunks_are_handed_on_without_an_order_while_there_is_no_basis() -> None:
    """Ordered by a distance to NULL, the planner may scan the index for all of them, and such a scan ends early."""
    _, after = stages(search.knn(Note.semantic, VECTOR))
    nearest, every = after.split(" UNION ALL ")
    assert "LIMIT coalesce(semantic.candidates_v1(" in nearest
    assert " ORDER BY note_semantic.prefix" in nearest
    assert " ORDER BY note_semantic.prefix" not in every
    assert "LIMIT CASE WHEN (semantic.candidates_v1(" in every
    assert "THEN CAST(NULL AS INTEGER) ELSE 0 END" in every
