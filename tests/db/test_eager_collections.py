"""A collection that is loaded with a joined eager load comes with every row that a search finds."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex, database, search
from pg_semantic.search import scan_settings
from tests.conftest import copy_of
from tests.db.library import encoder, sync

ROWS, TAGS = 2000, 3


class Base(orm.DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(sa.ForeignKey("note.id"))


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    tags: Mapped[list[Tag]] = orm.relationship()

    semantic = SemanticIndex("text", encoder="hashed:32", lexical=None)


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Notes of three tags each."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Note(id=n, text=f"anchor {n}", tags=[Tag() for _ in range(TAGS)]) for n in range(ROWS))
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    """A session of the test's own."""
    with Session(filled) as opened:
        yield opened


def nearest(limit: int, condition: sa.ColumnElement[bool]) -> "sa.Select[Note, float]":
    vector = encoder().encode_queries(["anchor 3"])[0]
    return search.knn(Note.semantic, vector, limit=limit).where(condition)


def test_a_joined_eager_load_of_a_collection_loses_no_row(session: Session) -> None:
    statement = nearest(8, sa.true())
    plain = [row.id for row, _ in session.execute(statement)]
    session.expunge_all()
    joined = session.execute(statement.options(orm.joinedload(Note.tags))).unique().all()
    assert [row.id for row, _ in joined] == plain
    assert [len(row.tags) for row, _ in joined] == [TAGS] * 8


def test_hits_come_with_a_collection_that_is_loaded_by_a_join(session: Session) -> None:
    searcher = Searcher(encoder())
    plain = [hit.entity.id for hit in searcher.search(session, Note.semantic, "anchor 3", limit=8)]
    session.expunge_all()
    options = search.Options(load=[orm.joinedload(Note.tags)])
    hits = searcher.search(session, Note.semantic, "anchor 3", limit=8, options=options)
    assert [hit.entity.id for hit in hits] == plain
    assert ["tags" in sa.inspect(hit.entity).unloaded for hit in hits] == [False] * 8


def test_rows_are_counted_and_not_what_they_were_joined_with(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEFAULT_EF_SEARCH": 10, "_EF_SEARCH_FACTOR": 0, "_MAX_SCAN_TUPLES": 1}.items():
        monkeypatch.setattr(scan_settings, name, value)  # scans that end after a few chunks
    statement = nearest(8, Note.id * 1 >= ROWS - 10)  # the planner expects a third of the rows
    assert len(session.connection().execute(statement).all()) < 8
    for eager in (statement, statement.with_only_columns(Note)):
        found = session.execute(eager.options(orm.joinedload(Note.tags))).unique().all()
        assert len(found) == 8
