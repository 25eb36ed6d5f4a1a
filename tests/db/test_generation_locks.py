"""Steps of a copy's life beside writers, workers and readers: in one order of locks, and with nothing left behind."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from pg_semantic import encoders, errors, generations, jobqueue
from pg_semantic.index import ddl
from pg_semantic.settings import Settings
from pg_semantic.worker import privileges
from pg_semantic.worker.served_indexes import ServedIndexes
from pg_semantic.worker.token_usage import TokenUsage
from tests.db import copies
from tests.db.copies import NAME, OTHER, all_of, await_blocked, begin, pid
from tests.db.library import execute, generation_of, rows, sync, wait_for_locks

fill = copies.fill  # for the fixture filled


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def drop_index(engine: sa.Engine) -> Sequence[sa.Executable]:
    return ddl.drop(generation_of(engine).spec)


def forget_next(engine: sa.Engine) -> Sequence[sa.Executable]:
    return [sa.select(sa.func.semantic.delete_generation_v1(all_of(engine)["next"].id, True))]


def withdraw_next(engine: sa.Engine) -> Sequence[sa.Executable]:
    return ddl.withdraw(all_of(engine)["next"].spec, all_of(engine)["live"].spec)


def withdraw_live(engine: sa.Engine) -> Sequence[sa.Executable]:
    sync(engine)
    generations.switch(engine, NAME)
    return ddl.withdraw(all_of(engine)["live"].spec, all_of(engine)["previous"].spec)


@pytest.mark.parametrize("step", [drop_index, forget_next, withdraw_next, withdraw_live])
def test_a_writer_that_has_the_table_is_waited_for_before_anything_else(
    synced: sa.Engine, step: Callable[[sa.Engine], Sequence[sa.Executable]]
) -> None:
    begin(synced, encoder=OTHER)
    statements = step(synced)

    def take() -> None:
        with synced.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    with ThreadPoolExecutor(1) as threads:
        with synced.begin() as writer:
            writer.execute(sa.text("UPDATE article SET title = 'walnut' WHERE id = 1"))
            taken = threads.submit(take)
            await_blocked(synced, pid(writer), taken.done)
            held = (
                "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = ANY(:of)"
            )
            relations = [oid for (oid,) in rows(synced, "SELECT CAST(chunks AS oid) FROM semantic.generation")]
            assert rows(synced, held, of=relations) == [(0,)]
            writer.execute(sa.text("DELETE FROM article WHERE id = 1"))  # goes on to chunks and receipts
        taken.result()
    assert rows(synced, "SELECT count(*) FROM article") == [(4,)]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE article ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON article USING (id > 2)",
        "ALTER TABLE article OWNER TO pg_database_owner",
    ],
)
@pytest.mark.parametrize("step", ["begin", "hang"])
def test_privileges_that_a_table_in_use_is_due_are_left_to_a_worker(synced: sa.Engine, change: str, step: str) -> None:
    execute(synced, change)
    live = generation_of(synced).spec
    target = dataclasses.replace(live, encoder=OTHER)
    with synced.begin() as search, synced.begin() as migration:
        search.execute(sa.text("SELECT count(*) FROM article_semantic, article_semantic_receipt"))
        migration.execute(sa.text("SET LOCAL lock_timeout = '3s'"))
        for statement in ddl.begin(target, live) if step == "begin" else ddl.create_triggers(live):
            migration.execute(statement)
    if step == "begin":
        secured = (
            "SELECT semantic.has_wanted_policies_v1(chunks), semantic.has_wanted_policies_v1(receipts) "
            "FROM semantic.generation"
        )
        assert rows(synced, f"{secured} WHERE role = 'next'") == [(True, True)]
    assert privileges.due(synced)[0].statements != ()
    assert [one.problem for one in privileges.follow(synced)] == [None]
    assert privileges.due(synced)[0].statements == ()


def test_jobs_that_a_worker_is_making_as_a_copy_is_dropped_do_not_stay(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, "UPDATE article SET title = title || ' new'")
    number = all_of(synced)["next"].id
    with ThreadPoolExecutor(1) as threads:
        with synced.begin() as worker:
            jobqueue.fold(worker, number)
            [forgetting] = forget_next(synced)

            def forget() -> None:
                with synced.begin() as connection:
                    connection.execute(forgetting)

            forgotten = threads.submit(forget)
            await_blocked(synced, pid(worker), forgotten.done)
        forgotten.result()
    left = "SELECT generation_id FROM semantic.job UNION ALL SELECT generation_id FROM semantic.mark"
    assert number not in {one for (one,) in rows(synced, left)}


@pytest.mark.parametrize("kind", [errors.IndexNotFound, errors.DatabaseError])
def test_a_copy_that_was_dropped_is_no_problem_of_a_worker(
    synced: sa.Engine, caplog: pytest.LogCaptureFixture, kind: type[errors.PgSemanticError]
) -> None:
    begun = begin(synced, encoder=OTHER)
    usage = TokenUsage(synced, Settings())
    roster = ServedIndexes(synced, Settings(), usage=usage, load=encoders.load, retry_seconds=30.0)
    roster.refresh()
    generations.drop(synced, NAME, "next", grace_seconds=0)
    gone = kind("Relation does not exist: create the tables first")
    roster.refuse(begun.id, gone)
    assert (roster.refused, caplog.text) == ({}, "")
    roster.refresh()
    assert begun.id not in roster.served
    roster.refuse(generation_of(synced).id, gone)
    assert list(roster.refused.values()) == [gone]


def test_a_step_that_gives_up_names_the_processes_that_it_waited_for(
    synced: sa.Engine,
) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    wait_for_locks(synced, seconds=0.5)
    with synced.begin() as reader, synced.begin() as writer:
        reader.execute(sa.text("SELECT count(*) FROM article_semantic")).all()
        writer.execute(sa.text("INSERT INTO article (id, title, lang) VALUES (99, 'new', 'en')"))
        with pytest.raises(errors.DatabaseError) as refusal:
            generations.switch(synced, NAME)
        assert f"(pid: {pid(reader)})" in str(refusal.value)
        with pytest.raises(errors.DatabaseError, match=r"pg_terminate_backend") as refusal:
            generations.drop(synced, NAME, "next", grace_seconds=0)
        assert str(pid(writer)) in str(refusal.value)
    generations.switch(synced, NAME)
