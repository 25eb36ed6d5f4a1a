"""An index that the server cannot build: the operator learns why, nothing spins, and the rest goes on."""

import logging
import threading

import pytest
import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.operations import status
from pg_semantic.settings import Settings
from pg_semantic.worker import index_builder
from pg_semantic.worker.worker import Worker
from tests.db import test_cli as shell
from tests.db.library import CLEAN, execute, generation_of, rows, sync, truth
from tests.waiting import eventually

_REFUSE = """
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF current_query() ~ '{which}' AND nextval('public.builds') <= {times} THEN
        RAISE EXCEPTION '{said}' USING ERRCODE = '{state}';
    END IF;
END
$body$
"""
_SHARED_MEMORY = 'could not resize shared memory segment "/PostgreSQL.1" to 67128672 bytes: No space left on device'


@pytest.fixture
def some(articles: sa.Engine) -> sa.Engine:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 20) i")
    execute(articles, "CREATE SEQUENCE builds")
    return articles


def refusing(engine: sa.Engine, state: str, said: str = "no", which: str = "hnsw", times: int = 1_000) -> None:
    """Has the server fail to build an index, as it does without memory or disk."""
    execute(engine, _REFUSE.format(state=state, said=said.replace(":", "\\:"), which=which, times=times))
    execute(
        engine,
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION refuse()",
    )


def tried(engine: sa.Engine) -> int:
    [(value, called)] = rows(engine, "SELECT last_value, is_called FROM builds")
    return int(value) if called else 0


@pytest.mark.parametrize(
    ("state", "said", "advice"),
    [
        ("53100", _SHARED_MEMORY, r"--shm-size.*max_parallel_maintenance_workers"),
        ("53100", 'could not extend file "base/1": No space left on device', r"disk is full"),
        ("53200", "out of memory", r"lower maintenance_work_mem"),
        ("53400", "temporary file size exceeds temp_file_limit (1kB)", r"temp_file_limit"),
        ("54000", "column cannot have more than 2000 dimensions for hnsw index", r"halfvec"),
        ("42501", "must be owner of table article_semantic", r"must own the table"),
        ("58030", "could not write block 7 of temporary file", r"look at its log"),
        ("XX000", "something else", r"something else \(SQLSTATE XX000\)"),
    ],
)
def test_worker_once_fails_with_the_servers_reason_and_what_to_change(
    some: sa.Engine, state: str, said: str, advice: str
) -> None:
    refusing(some, state, said)
    with pytest.raises(
        errors.DatabaseError, match=f"article_semantic_vector_idx could not be built.*{advice}"
    ) as raised:
        sync(some)
    assert said in str(raised.value)
    assert tried(some) == 1
    assert truth(some) == CLEAN


@pytest.mark.parametrize("times", [1, 3])
def test_a_draining_worker_begins_builds_again_that_were_canceled_for_others(some: sa.Engine, times: int) -> None:
    refusing(some, "57014", "canceling statement due to user request", times=times)
    sync(some)
    assert tried(some) == times + 1
    assert rows(some, "SELECT FROM semantic.problem") == []
    assert truth(some) == CLEAN


def test_a_draining_worker_whose_builds_are_canceled_each_time_says_so(some: sa.Engine) -> None:
    refusing(some, "57014", "canceling statement due to user request")
    with pytest.raises(errors.DatabaseError, match="canceled because another session needed the table"):
        sync(some)
    assert tried(some) == 4
    assert truth(some) == CLEAN


def test_the_command_exits_with_3_when_an_index_was_not_built_and_0_once_it_is(some: sa.Engine, dsn: str) -> None:
    refusing(some, "53200", "out of memory")
    done = shell.run("worker", "--once", dsn=dsn)
    assert (done.returncode, "out of memory" in done.stderr) == (3, True)
    execute(some, "DROP EVENT TRIGGER refuse")
    assert shell.run("worker", "--once", dsn=dsn).returncode == 0
    with some.connect() as connection:
        [index] = status.read(connection).indexes
    assert (index.vector_index, index.problems) == ("ready", [])


def test_status_says_why_an_index_is_not_built_and_when_it_is_tried_again(some: sa.Engine, dsn: str) -> None:
    refusing(some, "53100", _SHARED_MEMORY)
    with pytest.raises(errors.DatabaseError):
        sync(some)
    [index] = shell.parsed("status", dsn=dsn)["indexes"]
    [problem] = index["problems"]
    assert (problem["kind"], problem["failures"]) == ("build", 1)
    assert "shm-size" in problem["reason"]
    assert 0 < problem["next_seconds"] <= 5
    text = shell.ok("status", dsn=dsn)
    assert "not built" in text
    assert "1 attempt failed" in text
    [(said,)] = rows(some, "SELECT problem FROM semantic.index_status")
    assert "shared memory" in said


def test_each_attempt_waits_twice_as_long_as_the_one_before(some: sa.Engine) -> None:
    refusing(some, "53200")
    waits = []
    for _ in range(4):
        with pytest.raises(errors.DatabaseError):
            sync(some)
        waits += rows(some, "SELECT round(extract(epoch FROM next_at - now()) / 5) FROM semantic.problem")
    assert [int(wait) for (wait,) in waits] == [1, 2, 4, 8]


def test_a_worker_that_comes_later_does_not_try_before_it_is_time(some: sa.Engine) -> None:
    refusing(some, "53200")
    with pytest.raises(errors.DatabaseError):
        sync(some)
    execute(some, "UPDATE semantic.problem SET next_at = now() + interval '1 hour'")
    generation = generation_of(some)
    tending = index_builder.IndexBuilder(some, Settings())
    assert tending.tend(generation)
    execute(some, "UPDATE semantic.problem SET next_at = now()")
    later = index_builder.IndexBuilder(some, Settings())
    assert not later.tend(generation)
    assert later.wait(20)
    tending.close()
    later.close()
    assert tried(some) == 2


def test_a_continuous_worker_does_not_spin_on_what_cannot_be_built(
    some: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(some, "53200")
    stop, failed = threading.Event(), threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", "") == "index_failed":
                failed.set()

    heard = Heard()
    logging.getLogger("pg_semantic.worker").addHandler(heard)
    worker = threading.Thread(target=Worker(some, Settings(poll_seconds=0.01)).run, args=(stop,))
    worker.start()
    try:
        assert failed.wait(30)
        execute(some, "INSERT INTO article VALUES (100, 'later', NULL, 'en')")
        found = "SELECT count(*) FROM article_semantic WHERE id = 100"
        eventually(lambda: rows(some, found) == [(1,)], "the later row to be synced")
    finally:
        stop.set()
        worker.join(20)
        logging.getLogger("pg_semantic.worker").removeHandler(heard)
    assert tried(some) == 1


def test_an_index_on_words_that_cannot_be_built_keeps_no_vector_index_from_being_built(some: sa.Engine) -> None:
    refusing(some, "53200", which="gin")
    with pytest.raises(errors.DatabaseError, match=r"article_semantic_lexemes_idx could not be built"):
        sync(some)
    built = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'article_semantic_vector_idx'::regclass"
    assert rows(some, built) == [(True,)]


def test_a_reason_that_is_the_datas_is_not_quoted(some: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    refusing(some, "22003", "value confidential is out of range")
    with caplog.at_level(logging.DEBUG, "pg_semantic"), pytest.raises(errors.DatabaseError, match="NumericValue"):
        sync(some)
    assert "confidential" not in caplog.text
    assert "confidential" not in str(rows(some, "SELECT reason FROM semantic.problem"))


def test_a_graph_that_outgrows_its_memory_is_told(some: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    execute(some, "INSERT INTO article SELECT i, md5(i::text), NULL, 'en' FROM generate_series(1001, 6000) i")
    execute(some, f"ALTER DATABASE {some.url.database} SET maintenance_work_mem = '1MB'")
    execute(some, f"ALTER DATABASE {some.url.database} SET max_parallel_maintenance_workers = 0")
    some.dispose()
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(some)
    assert "raise maintenance_work_mem" in caplog.text


def test_a_stranger_learns_no_reason(some: sa.Engine) -> None:
    refusing(some, "53200", "out of memory")
    with pytest.raises(errors.DatabaseError):
        sync(some)
    role = "stranger_" + str(some.url.database)[-8:]
    execute(some, f"CREATE ROLE {role}")
    try:
        with some.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert connection.scalar(sa.text("SELECT problem FROM semantic.index_status")) is None
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                connection.execute(sa.text("SELECT * FROM semantic.problem"))
    finally:
        execute(some, f"DROP ROLE {role}")
