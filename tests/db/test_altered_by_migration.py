"""What a migration that changes an index does to the copies in the database: begun, switched to, taken back."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import errors, generations, registry
from pg_semantic.operations import verify
from pg_semantic.registry import Generation
from tests.db import migrations
from tests.db.library import execute, sync
from tests.db.migrations import Application
from tests.db.releases import article, operations, parts

NAME = "article_semantic"


@pytest.fixture
def application(engine: sa.Engine, tmp_path: Path) -> Application:
    """An application with one index, synced, and a migration that has begun to change its encoder."""
    made = migrations.begin(engine, tmp_path / "alembic")
    made.metadata = article("title")
    made.migrate()
    execute(engine, "INSERT INTO article SELECT i, md5(i::text), NULL FROM generate_series(1, 5) i")
    sync(engine)
    made.metadata = article("title", encoder="hashed:48")
    made.migrate()
    sync(engine)
    return made


def all_of(engine: sa.Engine) -> dict[str, Generation]:
    with engine.connect() as connection:
        known = registry.generations(connection)
    assert all(verify.verify(engine, one).clean for one in known)
    return {one.role: one for one in known}


def encoders_of(engine: sa.Engine) -> dict[str, str]:
    return {role: one.spec.encoder.reference for role, one in all_of(engine).items()}


def test_nothing_is_to_be_migrated_before_and_after_a_switch_and_after_a_rollback(application: Application) -> None:
    application.check()
    generations.switch(application.engine, NAME)
    application.check()
    generations.drop(application.engine, NAME, "previous", grace_seconds=0)
    application.check()


def test_a_downgrade_after_a_switch_goes_back_at_once(application: Application) -> None:
    generations.switch(application.engine, NAME)
    application.downgrade("-1")
    assert encoders_of(application.engine) == {"live": "hashed:32"}
    application.upgrade()
    assert encoders_of(application.engine) == {"live": "hashed:32", "next": "hashed:48"}


def test_a_downgrade_after_the_copy_before_was_dropped_is_refused_and_loses_nothing(application: Application) -> None:
    generations.switch(application.engine, NAME)
    generations.drop(application.engine, NAME, "previous", grace_seconds=0)
    with pytest.raises(errors.DatabaseError, match="cannot go back"):
        application.downgrade("-1")
    assert encoders_of(application.engine) == {"live": "hashed:48"}
    application.check()


def test_a_declaration_that_is_changed_back_after_a_rollback_takes_the_copy_back(application: Application) -> None:
    generations.switch(application.engine, NAME)
    generations.rollback(application.engine, NAME)
    application.check()
    application.metadata = article("title")
    upgrade, _ = parts(application.migrate())
    assert operations(upgrade) == [("revert_semantic_index", NAME)]
    assert encoders_of(application.engine) == {"live": "hashed:32"}
    application.check()


def test_a_change_of_a_copy_that_is_to_come_takes_its_place(application: Application) -> None:
    application.metadata = article("title", encoder="hashed:64")
    application.migrate()
    sync(application.engine)
    assert encoders_of(application.engine) == {"live": "hashed:32", "next": "hashed:64"}
    application.downgrade("-1")
    assert encoders_of(application.engine) == {"live": "hashed:32"}


def test_a_downgrade_of_a_change_of_a_copy_that_never_was_live_goes_back_to_the_one_that_was(
    application: Application,
) -> None:
    application.metadata = article("title", encoder="hashed:64")
    application.migrate()
    sync(application.engine)
    generations.switch(application.engine, NAME)
    with said_by(application.engine) as said:
        application.downgrade("-1")
    assert "is back at an older copy than the one that this change replaced" in said[-1]
    assert encoders_of(application.engine) == {"live": "hashed:32"}
    application.downgrade("-1")
    assert encoders_of(application.engine) == {"live": "hashed:32"}


@contextlib.contextmanager
def said_by(engine: sa.Engine) -> Iterator[list[str]]:
    """The notices and warnings of the server."""
    said: list[str] = []

    def hear(connection: Any, *_: object) -> None:
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary))

    engine.dispose()
    sa.event.listen(engine, "connect", hear)
    yield said
    sa.event.remove(engine, "connect", hear)
    engine.dispose()


def test_nothing_is_said_of_what_is_not_there_as_an_index_is_dropped(application: Application) -> None:
    execute(application.engine, "DROP VIEW semantic.chunks_2")
    with said_by(application.engine) as said:
        application.downgrade()
    assert not [message for message in said if "does not exist" in message]


def test_the_same_change_is_begun_where_the_one_before_is_live(application: Application) -> None:
    generations.switch(application.engine, NAME)
    application.metadata = article("title", "body", encoder="hashed:48")
    upgrade, _ = parts(application.migrate())
    assert operations(upgrade) == [("alter_semantic_index", NAME)]
    sync(application.engine)
    assert encoders_of(application.engine) == {"live": "hashed:48", "next": "hashed:48", "previous": "hashed:32"}
    application.downgrade("-1")
    assert encoders_of(application.engine) == {"live": "hashed:48", "previous": "hashed:32"}


def test_a_change_that_was_made_for_another_state_is_refused_and_loses_nothing(application: Application) -> None:
    generations.switch(application.engine, NAME)
    application.metadata = article("title", "body", encoder="hashed:48")
    application.autogenerate()
    generations.rollback(application.engine, NAME)
    generations.drop(application.engine, NAME, "next", grace_seconds=0)
    with pytest.raises(errors.DatabaseError, match="is not what this change expects"):
        application.upgrade()
    assert encoders_of(application.engine) == {"live": "hashed:32"}
