"""Which queries are held out belongs to the table, whatever happens to its indexes, its name and the database."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import database, errors, evaluation
from pg_semantic.evaluation import Judgements
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.worker import privileges
from tests.conftest import copy_of
from tests.db.library import Article, Base, execute, generation_of, rows
from tests.db.test_dump import dump_and_restore

JUDGED = Judgements({f"query {number}": {str(number): 1} for number in range(1, 61)})
FILL = "INSERT INTO article (id, title, lang) SELECT i, 'harbour', 'en' FROM generate_series(1, 60) i"
SWAP = ("ALTER TABLE article RENAME TO old", "CREATE TABLE article (LIKE old INCLUDING ALL)", FILL)


@pytest.fixture
def filled(articles: sa.Engine) -> sa.Engine:
    """A row for each query."""
    execute(articles, FILL)
    return articles


@pytest.fixture
def known(filled: sa.Engine) -> frozenset[bytes]:
    """The 18 queries that are held out."""
    with Session(filled) as session:
        evaluation.split(session, Article.semantic, JUDGED, held_out=0.3)
        session.commit()
    return held_out(filled)


@pytest.fixture
def elsewhere(server: sa.URL) -> Iterator[sa.Engine]:
    """An engine of another database, which is empty."""
    with copy_of(server, "template0") as made:
        engine = database.connect(made)
        yield engine
        engine.dispose()


def held_out(engine: sa.Engine, index: BoundIndex[Any] = Article.semantic) -> frozenset[bytes]:
    with Session(engine) as session:
        return evaluation.held_out_hashes(session, index)


def create(engine: sa.Engine, table: str, name: str) -> BoundIndex[Any]:
    """Creates another index, on the column ``body``."""
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, table, columns=("body",), encoder=EncoderSpec("hashed:16", 16), name=name
        )
    create_index.create(engine, spec)
    return declare.bind(generation_of(engine, name).spec)


def record(engine: sa.Engine, index: BoundIndex[Any] = Article.semantic) -> None:
    with Session(engine) as session:
        evaluation.record_training(session, index, ["something else"])
        session.commit()


def test_another_index_of_the_table_shares_them(filled: sa.Engine, known: frozenset[bytes]) -> None:
    other = create(filled, "article", "article_bodies")
    assert held_out(filled, other) == known
    with Session(filled) as session, pytest.raises(errors.QueryError, match="18 of 60 queries are held out"):
        evaluation.record_training(session, other, JUDGED.queries)


@pytest.mark.parametrize(
    "meanwhile",
    [(), ("DROP TABLE article",), ("ALTER TABLE article RENAME TO old", "ALTER TABLE old RENAME TO article"), SWAP],
    ids=["index", "table", "renamed", "swapped"],
)
def test_an_index_that_is_created_again_has_them_again(
    filled: sa.Engine, known: frozenset[bytes], meanwhile: tuple[str, ...]
) -> None:
    create_index.drop(filled, generation_of(filled).spec)
    for statement in meanwhile:
        execute(filled, statement)
    Base.metadata.create_all(filled)
    assert held_out(filled) == known
    record(filled)
    assert held_out(filled) == known
    replaced = [("old", "public.old")] if meanwhile == SWAP else []
    assert rows(filled, "SELECT source::regclass::text, name FROM semantic.judged_table ORDER BY id") == [
        *replaced,
        ("article", "public.article"),
    ]


def test_a_table_renamed_without_an_index_does_not_lose_them_to_a_new_one_of_its_old_name(
    filled: sa.Engine, known: frozenset[bytes], elsewhere: sa.Engine, tmp_path: Path
) -> None:
    create_index.drop(filled, generation_of(filled).spec)
    for statement in SWAP:
        execute(filled, statement)
    Base.metadata.create_all(filled)
    record(filled)
    old = create(filled, "old", "old_bodies")
    assert held_out(filled) == held_out(filled, old) == known
    record(filled, old)
    assert held_out(filled) == held_out(filled, old) == known
    dump_and_restore(filled, elsewhere, tmp_path / "dump")
    assert held_out(elsewhere) == held_out(elsewhere, old) == known


def test_a_renamed_table_keeps_them_and_another_one_of_its_old_name_has_none(
    filled: sa.Engine, known: frozenset[bytes]
) -> None:
    for statement in SWAP:
        execute(filled, statement)
    other = create(filled, "article", "article_bodies")
    assert held_out(filled, other) == frozenset()
    assert held_out(filled, declare.bind(generation_of(filled).spec)) == known


def test_a_table_that_an_index_is_moved_to_gets_them(filled: sa.Engine, known: frozenset[bytes]) -> None:
    other = create(filled, "article", "article_bodies")
    for statement in SWAP:
        execute(filled, statement)
    create_index.adopt(filled, generation_of(filled))
    assert held_out(filled) == known
    assert held_out(filled, declare.bind(generation_of(filled, "article_bodies").spec)) == known
    create_index.adopt(filled, generation_of(filled, "article_bodies"))
    assert held_out(filled, other) == known


def test_a_restored_database_has_them(
    filled: sa.Engine, known: frozenset[bytes], elsewhere: sa.Engine, tmp_path: Path
) -> None:
    dump_and_restore(filled, elsewhere, tmp_path / "dump")
    assert held_out(elsewhere) == known
    record(elsewhere)
    assert held_out(elsewhere) == known


def test_a_role_that_reads_the_index_can_ask_about_queries_that_it_knows_and_others_cannot(
    filled: sa.Engine, known: frozenset[bytes]
) -> None:
    reader, of_keys, stranger = (f"judge_{uuid.uuid4().hex}" for _ in range(3))
    execute(filled, f"CREATE ROLE {reader}; CREATE ROLE {of_keys}; CREATE ROLE {stranger}")
    execute(filled, f"GRANT SELECT (id, title, body) ON article TO {reader}; GRANT SELECT (id) ON article TO {of_keys}")
    privileges.follow(filled)
    with Session(filled) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {reader}"))
        with pytest.raises(errors.QueryError, match=f"{len(known)} of 60 queries are held out for table 'article'"):
            evaluation.require_not_held_out(session, Article.semantic, JUDGED.queries)
    for role in (of_keys, stranger):
        with Session(filled) as session:
            session.execute(sa.text(f"SET LOCAL ROLE {role}"))
            with pytest.raises(errors.DatabaseError, match="lacks privileges"):
                evaluation.require_not_held_out(session, Article.semantic, JUDGED.queries)
    execute(filled, f"DROP OWNED BY {reader}, {of_keys}; DROP ROLE {reader}, {of_keys}, {stranger}")


def test_nobody_can_ask_once_the_table_is_dropped(filled: sa.Engine, known: frozenset[bytes]) -> None:
    [(number,)] = rows(filled, "SELECT id FROM semantic.semantic_index")
    reader = f"judge_{uuid.uuid4().hex}"
    execute(filled, f"CREATE ROLE {reader}; GRANT SELECT ON article TO {reader}")
    privileges.follow(filled)
    asked = sa.select(sa.func.count()).select_from(sa.func.semantic.held_out_queries_v1(number, list(known)))
    with filled.connect() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {reader}"))
        assert connection.scalar(asked) == len(known)
    execute(filled, "DROP TABLE article CASCADE")
    with filled.connect() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {reader}"))
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.scalar(asked)
