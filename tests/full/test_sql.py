"""Plain SQL on a full server: an analyst who is nobody special searches by text, through a worker that answers."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic import database, errors, registry
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import reindex
from pg_semantic.settings import Settings
from pg_semantic.worker.throttle import Throttle
from tests.full.conftest import Place, working
from tests.waiting import eventually

SEARCH = "SELECT id FROM article_semantic_search(%s, %s)"


def test_an_analyst_at_psql_finds_rows_and_only_their_own(answering: Place) -> None:
    said = answering.psql(
        answering.analyst,
        "SELECT id, passage, round(score::numeric, 3) FROM article_semantic_search('apple 16', 3);\n"
        "SELECT count(*), bool_and(id % 8 = 0) FROM article_semantic_search('apple 16', 12);\n"
        "SELECT count(*) FROM article_semantic_search('apple 16', 1000);\n"
        "SELECT count(*) FROM article_semantic_search('apple', 7, 'lexical');\n"
        "SELECT id FROM article_semantic_search('apple 16', 3, 'hybrid', keys => ARRAY[8, 9, 24]);\n",
    )
    lines = said.splitlines()
    assert lines[0] == "16|apple 16|1.000"
    assert lines[3:6] == ["12|t", "50", "7"]
    assert set(lines[6:]) == {"8", "24"}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "SERIALIZABLE READ ONLY"])
def test_a_select_is_answered_in_a_transaction_of_any_kind(answering: Place, level: str) -> None:
    text = f"apple {level}"
    with answering.connect(answering.analyst) as connection:
        connection.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        for _ in range(3):
            assert len(connection.execute(SEARCH, [text, 5]).fetchall()) == 5
        connection.execute("COMMIT")


def test_a_hot_standby_asks_the_primary(answering: Place) -> None:
    with answering.connect(answering.owner) as primary, answering.connect(answering.analyst, standby=True) as standby:
        primary.execute("SELECT pg_current_wal_flush_lsn()")
        caught_up(primary, answering)
        assert standby.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        assert standby.execute(SEARCH, ["apple 24", 1]).fetchall() == [(24,)]


def test_a_standby_says_that_an_index_is_rebuilt_on_the_primary(answering: Place) -> None:
    with answering.connect(answering.owner) as primary:
        primary.execute("SELECT pg_current_wal_flush_lsn()")
        caught_up(primary, answering)
    engine = database.connect(answering.url(answering.owner, standby=True))
    with engine.connect() as connection:
        generation = registry.find(connection, "article_semantic")
    with pytest.raises(errors.DatabaseError, match="Connect to the primary server"):
        reindex.reindex(engine, generation)
    engine.dispose()


def test_backfill_is_paused_while_a_standby_is_behind(place: Place) -> None:
    throttle = Throttle(Settings(max_replay_lag_seconds=0.5))
    engine = database.connect(place.url("postgres"))

    def paused() -> bool:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_logical_emit_message(true, 'test', 'to replay')"))
            connection.commit()
            throttle.look(connection)
        return throttle.pauses(is_remote=False)

    with place.connect("postgres", standby=True) as standby:
        eventually(lambda: not paused(), "the standby to catch up")
        standby.execute("SELECT pg_wal_replay_pause()")
        try:
            eventually(paused, "the standby to be behind")
            assert throttle.reason is not None
            assert "s behind (max_replay_lag_seconds = 0.5)" in throttle.reason
        finally:
            standby.execute("SELECT pg_wal_replay_resume()")
        eventually(lambda: not paused(), "the standby to catch up again")
    engine.dispose()


def test_a_role_that_cannot_see_standbys_pauses_backfill_rather_than_guess(place: Place) -> None:
    throttle, engine = Throttle(Settings(max_replay_lag_seconds=3600)), database.connect(place.url(place.owner))
    with engine.connect() as connection:
        throttle.look(connection)
        assert throttle.pauses(is_remote=False)
    engine.dispose()
    assert throttle.reason is not None
    assert "GRANT pg_read_all_stats" in throttle.reason


def caught_up(primary: psycopg.Connection, place: Place) -> None:
    """Waits until the standby has what the primary has committed."""
    row = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    assert row is not None
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    with place.connect("postgres", standby=True) as standby:
        eventually(lambda: standby.execute(replayed, row).fetchone() == (True,), "the standby to catch up")


def test_without_a_worker_the_error_says_so_at_once(linked: Place) -> None:
    started = time.monotonic()
    said = linked.psql(linked.analyst, "SELECT * FROM article_semantic_search('pear');")
    assert "ERROR:  the query cannot be encoded: no worker is running" in said
    assert "HINT:  Start one: pg-semantic worker." in said
    assert time.monotonic() - started < 5


def test_a_worker_that_hangs_is_waited_for_no_longer_than_was_said(linked: Place) -> None:
    with linked.connect(linked.owner) as connection:
        connection.execute("INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
    started = time.monotonic()
    said = linked.psql(
        linked.analyst, "SET semantic.wait_seconds = 0.5; SELECT * FROM article_semantic_search('pear');"
    )
    assert "the query was not encoded within 0.5 seconds" in said
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("timeout", ["400ms", "800ms"])
def test_a_statement_timeout_does_not_end_a_select_before_it_says_what_is_wrong(linked: Place, timeout: str) -> None:
    with linked.connect(linked.owner) as connection:
        connection.execute("INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
    said = linked.psql(
        linked.analyst, f"SET statement_timeout = '{timeout}'; SELECT * FROM article_semantic_search('pear');"
    )
    assert "the query was not encoded within" in said
    assert "a statement_timeout above that" in said


def test_fifty_callers_at_once_are_served(answering: Place) -> None:
    def search(number: int) -> list[tuple[int, ...]]:
        with answering.connect(answering.analyst) as connection:
            return connection.execute(SEARCH, [f"apple {8 * number}", 1]).fetchall()

    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(search, range(1, 51)))
    assert found == [[(8 * number,)] for number in range(1, 51)]


def test_an_error_of_the_encoder_reaches_who_asked(linked: Place) -> None:
    class Picky(HashedEncoder):
        def encode_queries(self, _: Sequence[str]) -> Vectors:
            raise ValueError("not this one")

    with working(linked, Picky(32)):
        said = linked.psql(linked.analyst, "SELECT * FROM article_semantic_search('pear');")
    assert "the query cannot be encoded: ValueError: not this one" in said


def test_a_connection_that_was_lost_is_made_anew(answering: Place) -> None:
    with answering.connect(answering.analyst) as connection:
        connection.execute(SEARCH, ["apple 8", 1])
        with answering.connect("postgres") as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'semantic_query'")
        assert connection.execute(SEARCH, ["apple 32", 1]).fetchall() == [(32,)]


def request_of(owner: psycopg.Connection, text: str) -> Callable[[], bool]:
    asked = "SELECT count(*) FROM semantic.query_request WHERE text = %s"
    return lambda: owner.execute(asked, [text]).fetchone() != (0,)


def test_after_searches_that_were_cancelled_the_next_is_answered(linked: Place) -> None:
    with linked.connect(linked.owner) as owner, linked.connect(linked.analyst) as connection:
        owner.execute("INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
        connection.execute("SET semantic.wait_seconds = 60")
        for text in ("apple 8", "apple 16", "apple 24", "apple 32", "apple 40"):
            with ThreadPoolExecutor(1) as thread:
                searching = thread.submit(connection.execute, SEARCH, [text, 1])
                eventually(request_of(owner, text), f"a request for {text!r}", unless=searching.done)
                connection.cancel_safe()
                with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
                    searching.result(30)
        with working(linked):
            assert connection.execute(SEARCH, ["apple 56", 1]).fetchall() == [(56,)]


def test_before_dblink_is_set_up_a_call_will_do(place: Place) -> None:
    with working(place):
        said = place.psql(
            place.analyst,
            "SELECT id FROM article_semantic_search('apple 40', 1);\n"
            "CALL semantic.embed_query('article_semantic', 'apple 40');\n"
            "SELECT id FROM article_semantic_search('apple 40', 1);\n",
        )
    assert "ERROR:  the query has no vector yet, and a SELECT cannot ask a worker for it without dblink" in said
    assert "HINT:  Run CALL semantic.embed_query" in said
    assert "40" in said.splitlines()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM semantic.query_vector",
        "SELECT * FROM semantic.query_request",
        "INSERT INTO semantic.query_vector VALUES (1, '', '{1}')",
        "SELECT semantic_dblink.dblink_connect('mine', 'semantic')",
        "SELECT * FROM semantic_dblink.dblink('semantic', 'SELECT query FROM pg_stat_activity') AS seen (query text)",
        "SELECT semantic_dblink.dblink_exec('semantic', 'ALTER ROLE semantic_query SET lock_timeout = 1')",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER semantic",
    ],
)
def test_an_analyst_can_not_read_what_others_ask_nor_use_the_connection_themselves(
    answering: Place, statement: str
) -> None:
    with answering.connect(answering.analyst) as connection:
        connection.execute(SEARCH, ["apple 8", 1])
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject)):
            connection.execute(statement.encode())
    with answering.connect(answering.analyst) as connection:
        shown = connection.execute("SELECT umoptions FROM pg_user_mappings WHERE srvname = 'semantic'").fetchall()
        assert shown == [(None,)]


def test_dblink_that_was_there_before_is_closed_too(place: Place, request: pytest.FixtureRequest) -> None:
    with place.connect("postgres") as admin:
        admin.execute("CREATE EXTENSION dblink")
    request.getfixturevalue("answering")
    with place.connect(place.analyst) as connection:
        assert connection.execute(SEARCH, ["apple 8", 1]).fetchall() == [(8,)]
        with pytest.raises(psycopg.errors.UndefinedFunction):
            connection.execute("SELECT dblink_exec('semantic', 'SELECT 1')")


def test_nobody_is_asked_over_a_connection_that_is_open_to_everybody(answering: Place) -> None:
    with answering.connect("postgres") as admin, answering.connect(answering.analyst) as connection:
        admin.execute("GRANT USAGE ON SCHEMA semantic_dblink TO PUBLIC")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="every role can use dblink"):
            connection.execute(SEARCH, ["apple 8", 1])
        admin.execute("REVOKE USAGE ON SCHEMA semantic_dblink FROM PUBLIC")
        assert connection.execute(SEARCH, ["apple 8", 1]).fetchall() == [(8,)]


def test_the_role_that_asks_can_do_nothing_else(answering: Place) -> None:
    with answering.connect("semantic_query") as connection:
        for statement in ("SELECT * FROM article", "SELECT * FROM article_semantic", "SELECT * FROM semantic.job"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_texts_of_rows_that_policies_hide_cannot_be_read_directly(answering: Place) -> None:
    with answering.connect(answering.analyst) as connection:
        for table in ("article_semantic", "article_semantic_receipt"):
            counted = connection.execute(f"SELECT count(*), bool_and(id % 8 = 0) FROM {table}".encode())
            assert counted.fetchone() == (50, True)
        assert len(connection.execute(SEARCH, ["apple 48", 12]).fetchall()) == 12
        assert connection.execute(SEARCH, ["apple 48", 1]).fetchall() == [(48,)]
