"""What gets past the triggers is captured another way, or found in the catalogues and reconciled by a worker."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import errors, jobqueue, sql
from pg_semantic.database import transaction
from pg_semantic.operations import create_index, doctor, repair, status, verify
from pg_semantic.settings import Settings
from pg_semantic.worker import backfill, encode_chunks, read_rows, write_chunks
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, Article, encoder, execute, fold, generation_of, jobs, rows, sync, truth
from tests.db.test_cli import ok
from tests.waiting import eventually

TRIGGER = "article_semantic_capture_update"
UNSEEN = "SET session_replication_role = replica; {} ; RESET session_replication_role"
NO_REPLICA = "ALTER TABLE article DISABLE TRIGGER article_semantic_capture_replica"


def fill(engine: sa.Engine) -> None:
    """Five synced rows."""
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def script(engine: sa.Engine, text: str) -> None:
    """Statements in one transaction."""
    with engine.begin() as connection:
        for statement in text.split(";"):
            connection.execute(sa.text(statement))


def only(engine: sa.Engine) -> status.IndexStatus:
    with engine.connect() as connection:
        [found] = status.read(connection).indexes
    return found


# A session in the role of a replica, as the apply worker of logical replication is.


@pytest.mark.parametrize(
    ("statement", "marked"),
    [
        ("INSERT INTO article VALUES (6, 'six', NULL, 'en'), (7, 'seven', NULL, 'en')", {"6", "7"}),
        ("UPDATE article SET body = 'new' WHERE id < 3", {"1", "2"}),
        ("UPDATE article SET lang = 'de'", set()),
        ("UPDATE article SET id = id + 10 WHERE id < 3", {"1", "2", "11", "12"}),
        ("DELETE FROM article WHERE id < 3", {"1", "2"}),
        ("TRUNCATE article CASCADE", {None}),
        ("INSERT INTO article (id, lang) VALUES (1, '') ON CONFLICT (id) DO UPDATE SET body = NULL", {"1"}),
    ],
)
def test_rows_of_a_session_in_the_role_of_a_replica_are_captured_and_become_true(
    synced: sa.Engine, statement: str, marked: set[str | None]
) -> None:
    script(synced, UNSEEN.format(statement))
    assert jobs(synced) == marked
    sync(synced)
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean


def test_no_change_is_marked_twice_in_either_role(synced: sa.Engine) -> None:
    for role in ("origin", "replica"):
        script(synced, f"SET session_replication_role = {role}; UPDATE article SET body = '{role}' WHERE id = 1")
        assert rows(synced, "SELECT key FROM semantic.mark") == [("1",)]
        execute(synced, "DELETE FROM semantic.mark")


def test_no_change_is_marked_twice_after_all_triggers_were_enabled(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article ENABLE TRIGGER ALL")
    for statement in ("UPDATE article SET body = 'new' WHERE id = 1", "DELETE FROM article WHERE id = 1"):
        execute(synced, statement)
        assert rows(synced, "SELECT key FROM semantic.mark WHERE key IS NOT NULL") == [("1",)]
        execute(synced, "DELETE FROM semantic.mark")
    sync(synced)
    script(synced, UNSEEN.format("UPDATE article SET body = 'applied' WHERE id = 2"))
    assert jobs(synced) == {"2"}


def test_a_renamed_column_does_not_stop_rows_that_are_applied(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article RENAME COLUMN body TO main")
    script(synced, UNSEEN.format("UPDATE article SET main = 'new' WHERE id = 1"))
    assert jobs(synced) == {None}
    execute(synced, "ALTER TABLE article RENAME COLUMN main TO body")
    sync(synced)
    assert truth(synced) == CLEAN


# What cannot be captured is seen in the catalogues, and one run of a worker makes it true.

UNCAPTURED = {
    "disabled and enabled": f"ALTER TABLE article DISABLE TRIGGER {TRIGGER}; UPDATE article SET body = 'new'; "
    f"ALTER TABLE article ENABLE TRIGGER {TRIGGER}",
    "all disabled and enabled, as by pg_restore": "ALTER TABLE article DISABLE TRIGGER ALL; "
    "UPDATE article SET body = 'new'; DELETE FROM article WHERE id = 5; ALTER TABLE article ENABLE TRIGGER ALL",
    "dropped": f"DROP TRIGGER {TRIGGER} ON article; UPDATE article SET body = 'new'",
    "function dropped": "DROP FUNCTION article_semantic_capture CASCADE; UPDATE article SET body = 'new'",
    "row trigger and foreign keys off": f"{NO_REPLICA}; SET session_replication_role = replica; "
    "DELETE FROM article WHERE id < 3; INSERT INTO article VALUES (9, 'nine', NULL, 'en'); "
    "RESET session_replication_role; ALTER TABLE article ENABLE REPLICA TRIGGER article_semantic_capture_replica",
    "column rewritten": "ALTER TABLE article ALTER COLUMN body TYPE text USING upper(body)",
    "columns swapped": "ALTER TABLE article RENAME COLUMN body TO was; ALTER TABLE article RENAME COLUMN lang TO body; "
    "ALTER TABLE article RENAME COLUMN was TO lang",
    "foreign keys dropped": "ALTER TABLE article_semantic DROP CONSTRAINT article_semantic_id_fkey; "
    "ALTER TABLE article_semantic_receipt DROP CONSTRAINT article_semantic_receipt_id_fkey; "
    "DELETE FROM article WHERE id = 5; UPDATE article SET id = 8 WHERE id = 1",
}


@pytest.mark.parametrize("how", UNCAPTURED)
def test_one_run_of_a_worker_makes_true_what_came_past_the_triggers(synced: sa.Engine, how: str) -> None:
    script(synced, UNCAPTURED[how])
    sync(synced)
    assert truth(synced) == CLEAN
    report = verify.verify(synced, generation_of(synced))
    assert report.clean, report
    assert only(synced).capture_problem is None
    assert only(synced).stale_since is None
    execute(synced, "UPDATE article SET title = 'later' WHERE id = 3")
    assert jobs(synced) == {"3"}


def test_foreign_keys_that_are_not_enforced_are_made_again_and_orphans_are_gone(synced: sa.Engine) -> None:
    if rows(synced, "SHOW server_version_num")[0][0] < "180000":
        pytest.skip("this server enforces every foreign key")
    for table in ("article_semantic", "article_semantic_receipt"):
        execute(synced, f"ALTER TABLE {table} ALTER CONSTRAINT {table}_id_fkey NOT ENFORCED")
    assert {finding.subject for finding in doctor.examine(synced) if finding.check == "foreign_keys"} == {
        "article_semantic"
    }
    execute(synced, "DELETE FROM article WHERE id = 5")
    execute(synced, "UPDATE article SET id = 8 WHERE id = 1")
    sync(synced)
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean
    assert [finding for finding in doctor.examine(synced) if finding.check == "foreign_keys"] == []
    execute(synced, "DELETE FROM article WHERE id = 2")
    assert rows(synced, "SELECT id FROM article_semantic WHERE id = 2") == []


def test_foreign_keys_that_are_put_back_are_validated_and_orphans_are_gone(synced: sa.Engine) -> None:
    script(synced, UNCAPTURED["foreign keys dropped"])
    sync(synced)
    keys = "SELECT conrelid::regclass::text, convalidated, confdeltype::text, confupdtype::text FROM pg_constraint "
    found = rows(synced, keys + "WHERE contype = 'f' AND confrelid = 'article'::regclass ORDER BY 1")
    assert found == [("article_semantic", True, "c", "c"), ("article_semantic_receipt", True, "c", "c")]


def test_triggers_that_an_operator_disabled_stay_so_and_status_names_them(
    synced: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    execute(synced, f"ALTER TABLE article DISABLE TRIGGER {TRIGGER}")
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(synced)
    execute(synced, "UPDATE article SET body = 'new'")
    sync(synced)
    assert only(synced).capture_problem == "triggers of public.article are disabled: pg-semantic repair"
    assert "triggers of public.article are disabled" in caplog.text
    execute(synced, f"ALTER TABLE article ENABLE TRIGGER {TRIGGER}")
    sync(synced)
    assert truth(synced) == CLEAN
    assert only(synced).capture_problem is None


def test_triggers_that_a_worker_puts_back_are_left_to_nobody_to_repair(
    synced: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    execute(synced, f"DROP TRIGGER {TRIGGER} ON article")
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(synced)
    [said] = [line for line in caplog.messages if "triggers reinstalled" in line]
    assert said.endswith("triggers reinstalled: triggers of public.article are missing")


def test_status_says_what_a_worker_has_not_seen_yet(synced: sa.Engine) -> None:
    script(synced, UNCAPTURED["disabled and enabled"])
    assert only(synced).capture_problem == (
        "the triggers of public.article were changed: rows may be out of date until a worker has compared them"
    )


def test_status_says_since_when_rows_may_be_stale_and_how_far_the_reconcile_is(synced: sa.Engine, dsn: str) -> None:
    script(synced, UNCAPTURED["column rewritten"])
    execute(synced, "ANALYZE article")
    with synced.begin() as connection:
        generation = generation_of(synced)
        connection.execute(sa.text("SELECT semantic.record_capture_state_v1(id) FROM semantic.semantic_index"))
    assert "reconcile at 0%" in " ".join(ok("status", dsn=dsn).split())
    fold(synced)
    backfill.advance(synced, generation.tables, generation.id, rows=2)
    found = only(synced)
    assert (found.reconciled, found.stale_reason) == (0.4, "columns of public.article were changed")
    assert found.stale_since is not None
    assert "may be stale since" in " ".join(ok("status", dsn=dsn).split())
    sync(synced)
    assert only(synced).stale_since is None
    assert truth(synced) == CLEAN


def test_the_end_of_a_reconcile_leaves_the_next_one_that_was_asked_for_meanwhile(synced: sa.Engine) -> None:
    again = "SELECT semantic.restart_backfill_v1(id, 'again', true) FROM semantic.semantic_index"
    execute(synced, again)
    fold(synced)
    execute(synced, again)
    generation = generation_of(synced)
    assert backfill.advance(synced, generation.tables, generation.id)
    found = only(synced)
    assert (found.stale_since is not None, found.stale_reason) == (True, "again")
    sync(synced)
    assert (only(synced).stale_since, only(synced).stale_reason) == (None, None)


def test_a_reconcile_makes_jobs_for_rows_that_differ_alone(synced: sa.Engine) -> None:
    script(
        synced,
        f"ALTER TABLE article DISABLE TRIGGER {TRIGGER}; UPDATE article SET body = 'new' WHERE id = 2; "
        f"ALTER TABLE article ENABLE TRIGGER {TRIGGER}",
    )
    done = sync(synced)
    assert (done.rows, done.chunks_encoded) == (1, 1)


def test_the_orphans_of_many_pages_are_swept(synced: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(synced, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(6, 30) i")
    sync(synced)
    monkeypatch.setattr(backfill, "PAGE_ROWS", 3)
    script(
        synced,
        f"{NO_REPLICA}; SET session_replication_role = replica; DELETE FROM article WHERE id % 10 <> 0; "
        "DELETE FROM article_semantic_receipt WHERE id % 10 <> 0 AND id < 15; RESET session_replication_role; "
        "ALTER TABLE article ENABLE REPLICA TRIGGER article_semantic_capture_replica",
    )
    sync(synced)
    assert truth(synced) == CLEAN
    assert rows(synced, "SELECT count(*) FROM article_semantic_receipt") == [(3,)]


@pytest.mark.parametrize("command", ["VACUUM FULL article", "CLUSTER article USING article_pkey"])
def test_a_table_that_is_rewritten_as_it_is_is_compared_and_nothing_is_encoded(
    synced: sa.Engine, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    with synced.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(command)
    with caplog.at_level(logging.INFO, "pg_semantic"):
        assert sync(synced).chunks_encoded == 0
    assert "public.article was rewritten" in caplog.text
    assert truth(synced) == CLEAN
    assert (only(synced).stale_since, only(synced).capture_problem) == (None, None)


def test_what_changes_no_row_starts_no_reconcile(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article ADD COLUMN more text")
    execute(synced, "ALTER TABLE article ALTER COLUMN body SET STATISTICS 10")
    execute(synced, "CREATE INDEX ON article (title)")
    execute(synced, "GRANT SELECT (title) ON article TO PUBLIC")
    execute(synced, "ANALYZE article")
    assert only(synced).capture_problem is None
    assert rows(synced, "SELECT changes, missing, foreign_keys FROM semantic.detect_changes_past_capture_v1()") == [
        (None, False, False)
    ]


def test_a_reconcile_of_one_table_leaves_the_others_alone(synced: sa.Engine) -> None:
    execute(synced, "CREATE TABLE note (id int PRIMARY KEY, words text)")
    with synced.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(synced, spec)
    sync(synced)
    script(synced, UNCAPTURED["column rewritten"])
    assert rows(synced, "SELECT count(*) FROM semantic.detect_changes_past_capture_v1() WHERE changes IS NOT NULL") == [
        (1,)
    ]


def test_a_worker_that_may_not_hang_triggers_says_so_and_syncs_the_rest(
    synced: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    execute(synced, f"DROP TRIGGER {TRIGGER} ON article")
    execute(synced, "INSERT INTO article VALUES (6, 'six', NULL, 'en')")
    role = "worker_" + str(synced.url.database)[-8:]
    execute(synced, f"CREATE ROLE {role} LOGIN BYPASSRLS")
    for statement in (
        f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}",
        f"GRANT ALL ON article, article_semantic, article_semantic_receipt TO {role}",
        f"ALTER TABLE article_semantic OWNER TO {role}",
        f"ALTER TABLE article_semantic_receipt OWNER TO {role}",
        f"GRANT CREATE ON SCHEMA public TO {role}",
    ):
        execute(synced, statement)
    worker = sa.create_engine(synced.url.set(username=role), connect_args={"prepare_threshold": None})
    try:
        refused = pytest.raises(errors.DatabaseError, match="can create its triggers: GRANT")
        with caplog.at_level(logging.WARNING, "pg_semantic"), refused:
            sync(worker)
        assert rows(synced, "SELECT content FROM article_semantic WHERE id = 6") == [("six",)]
        assert "can create its triggers: GRANT" in caplog.text
        assert rows(synced, "SELECT FROM semantic.job WHERE state = 'failed'") == []
        assert only(synced).capture_problem == "triggers of public.article are missing: pg-semantic repair"
    finally:
        worker.dispose()
        execute(synced, f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        execute(synced, f"DROP OWNED BY {role} CASCADE")
        execute(synced, f"DROP ROLE {role}")


def test_triggers_disabled_for_a_load_stay_so_when_a_partition_comes_and_repair_enables_them(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE event (id int PRIMARY KEY, words text) PARTITION BY RANGE (id)")
    execute(engine, "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (9)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "event", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)
    for table in ("event", "event_1"):
        execute(engine, f"ALTER TABLE {table} DISABLE TRIGGER event_semantic_capture_insert")
    execute(engine, "CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (9) TO (99)")
    state = "SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE tgname = 'event_semantic_capture_insert'"
    sync(engine)
    assert sorted(rows(engine, state)) == [("event", "D"), ("event_1", "D"), ("event_2", "O")]
    repair.repair(engine, generation_of(engine, "event_semantic"))
    assert sorted(rows(engine, state)) == [("event", "O"), ("event_1", "O"), ("event_2", "O")]


REFUSE = """
CREATE SEQUENCE tries;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM nextval('public.tries');
    RAISE EXCEPTION 'no trigger here' USING ERRCODE = '42501';
END
$body$;
CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION refuse()
"""
NOTED = "SELECT kind, failures, round(extract(epoch FROM next_at - now()) / 5) FROM semantic.problem"


def test_a_step_that_is_refused_waits_twice_as_long_each_time_and_status_says_why(synced: sa.Engine, dsn: str) -> None:
    execute(synced, f"DROP TRIGGER {TRIGGER} ON article")
    execute(synced, REFUSE)
    looking, live = CatalogWatcher(synced), [generation_of(synced)]
    for failures, wait in ((1, 1), (2, 2), (3, 4)):
        looking.look(live, at_once=failures == 1)
        assert rows(synced, NOTED) == [("capture", failures, wait)]
        for _ in range(3):
            looking.look(live, at_once=True)
        assert rows(synced, NOTED) == [("capture", failures, wait)]
        assert "no trigger here" in ok("status", dsn=dsn)
        execute(synced, "UPDATE semantic.problem SET next_at = now()")
        looking = CatalogWatcher(synced)
    execute(synced, "DROP EVENT TRIGGER refuse")
    sync(synced)
    assert only(synced).problems == []
    assert only(synced).capture_problem is None


def test_a_step_that_is_refused_keeps_no_other_from_being_taken(synced: sa.Engine) -> None:
    script(synced, UNCAPTURED["foreign keys dropped"])
    execute(synced, f"DROP TRIGGER {TRIGGER} ON article")
    execute(synced, "UPDATE article SET body = 'past the triggers' WHERE id = 3")
    execute(synced, REFUSE)
    with pytest.raises(errors.DatabaseError, match="no trigger here"):
        sync(synced)
    assert truth(synced) == CLEAN
    assert rows(synced, DOUBTFUL) == []
    assert only(synced).capture_problem == "triggers of public.article are missing: pg-semantic repair"
    assert [one.kind for one in only(synced).problems] == ["capture"]


def test_what_keeps_a_foreign_key_from_being_validated_is_deleted(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article_semantic DROP CONSTRAINT article_semantic_id_fkey")
    execute(
        synced,
        "INSERT INTO article_semantic SELECT (jsonb_populate_record(c, '{\"id\": 99}')).* "
        "FROM article_semantic c WHERE id = 1".replace(":", "\\:"),
    )
    execute(
        synced,
        "ALTER TABLE article_semantic ADD FOREIGN KEY (id) REFERENCES article ON UPDATE CASCADE ON DELETE CASCADE "
        "NOT VALID",
    )
    for _ in range(3):  # it is found, deleted, and then the key is validated
        sync(synced)
    assert truth(synced) == CLEAN
    assert rows(synced, DOUBTFUL) == []
    assert only(synced).problems == []


def test_a_reconcile_voids_what_a_worker_has_read_before(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'for a moment' WHERE id = 1")
    batch = read_rows.read(synced, generation_of(synced).tables, claimed(synced), counter=encoder())
    script(
        synced,
        f"ALTER TABLE article DISABLE TRIGGER {TRIGGER}; UPDATE article SET body = 'body 1' WHERE id = 1; "
        f"ALTER TABLE article ENABLE TRIGGER {TRIGGER}",
    )
    generation = generation_of(synced)
    CatalogWatcher(synced).look([generation])
    fold(synced)
    assert backfill.advance(synced, generation.tables, generation.id)
    encode_chunks.encode(batch, encoder())
    assert write_chunks.write(synced, batch, settings=Settings()) == 0
    sync(synced)
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean


def claimed(engine: sa.Engine) -> jobqueue.Claim:
    fold(engine)
    with engine.begin() as connection:
        return jobqueue.claim(connection, generation_of(engine).id, rows=10, lease_seconds=60)


def test_a_page_of_a_reconcile_that_takes_long_is_cut_down(synced: sa.Engine) -> None:
    execute(synced, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(6, 20) i")
    sync(synced)
    execute(synced, "SELECT semantic.restart_backfill_v1(id, 'again', true) FROM semantic.semantic_index")
    fold(synced)
    canceled: list[str] = []

    @sa.event.listens_for(synced, "before_cursor_execute", retval=True)
    def run_out_of_time(*given: Any) -> tuple[str, Any]:
        _, _, statement, parameters, *_ = given
        if "sha256" in statement and len(canceled) < 2:
            canceled.append(statement)
            return "DO $$ BEGIN RAISE query_canceled; END $$", {}
        return statement, parameters

    generation, pages = generation_of(synced), backfill.Backfill(synced, first_rows=16, page_seconds=0.0)
    compared = "SELECT backfill_rows FROM semantic.generation"
    counts = [0]

    def backfilled() -> bool:
        pages.advance(generation.tables, generation.id)
        [(count,)] = rows(synced, compared)
        counts.extend([count] if count != counts[-1] else [])
        return generation_of(synced).backfilled

    eventually(backfilled, "the backfill")
    assert (len(canceled), counts[:4]) == (2, [0, 4, 6, 7])
    assert truth(synced) == CLEAN


DOUBTFUL = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated"
VALIDATING = "SELECT FROM pg_stat_activity WHERE query LIKE '%validate_foreign_key_v1%' AND wait_event_type = 'Lock'"
SLOW_VALIDATION = """
CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF current_query() ~ 'validate_foreign_key' THEN
        PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock(1);
    END IF;
END
$body$;
CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION slow()
"""


@pytest.fixture
def validating(synced: sa.Engine) -> Iterator[sa.Engine]:
    """A worker at a validation that takes long."""
    script(synced, UNCAPTURED["foreign keys dropped"])
    execute(synced, SLOW_VALIDATION)
    stop = threading.Event()
    with (
        synced.connect().execution_options(isolation_level="AUTOCOMMIT") as holding,
        ThreadPoolExecutor(1) as threads,
    ):
        holding.execute(sa.text("SELECT pg_advisory_lock(1)"))
        done = threads.submit(Worker(synced, Settings()).run, stop)
        try:
            eventually(lambda: rows(synced, VALIDATING), "the worker to validate", unless=done.done)
            yield synced
        finally:
            stop.set()
        done.result()  # whatever it was at ends with it
    assert len(rows(synced, DOUBTFUL)) == 2


def test_edits_are_synced_while_foreign_keys_are_validated(validating: sa.Engine) -> None:
    execute(validating, "UPDATE article SET title = 'meanwhile' WHERE id = 3")
    eventually(lambda: truth(validating) == CLEAN, "the edit to be synced")
    assert rows(validating, VALIDATING)


def test_a_validation_gives_way_to_an_application_that_waits_for_the_table(validating: sa.Engine, dsn: str) -> None:
    execute(validating, "SET statement_timeout = '20s'; ALTER TABLE article ADD COLUMN more text")
    eventually(lambda: [one.kind for one in only(validating).problems] == ["foreign_key"], "the problem")
    assert "another session is waiting" in ok("status", dsn=dsn)


def test_the_look_at_the_catalogues_reads_no_row_of_a_table(synced: sa.Engine) -> None:
    read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname LIKE 'article%'"
    with synced.connect() as connection:
        before = connection.scalar(sa.text(read))
        assert connection.execute(sa.text("SELECT * FROM semantic.detect_changes_past_capture_v1()")).all()
        assert connection.scalar(sa.text(read)) == before


def test_the_look_at_the_catalogues_scans_them_less_often_than_there_are_indexes(synced: sa.Engine) -> None:
    for number in range(8):
        execute(synced, f"CREATE TABLE note_{number} (id int PRIMARY KEY, words text)")
        with synced.connect() as connection:
            spec = create_index.describe(
                connection, f"note_{number}", columns=("words",), encoder=Article.semantic.spec.encoder
            )
        create_index.create(synced, spec)
    execute(
        synced, "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE 'CREATE TABLE other_' || i || ' (a int)'; END LOOP; END $$"
    )
    execute(synced, "ANALYZE pg_class")
    scans = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_sys_tables WHERE relname = 'pg_class'"
    with transaction.begin(synced) as connection:
        before = connection.scalar(sa.text(scans))
        assert len(connection.execute(sql.statement("registry", "detect")).all()) == 9
        assert connection.scalar(sa.text(scans)) - before < 9
