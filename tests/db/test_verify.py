"""`verify` finds what is not true to its text, and only that; `repair` mends it."""

import threading

import pytest
import sqlalchemy as sa

from pg_semantic.database import transaction
from pg_semantic.operations import create_index, repair, verify
from pg_semantic.operations.verify import VerifyReport
from tests.db import test_protocol as steps
from tests.db.library import CLEAN, Article, execute, fold, generation_of, jobs, qualified, rows, sync, truth
from tests.waiting import eventually

NAME = "public.article_semantic"


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def verified(engine: sa.Engine) -> VerifyReport:
    return verify.verify(engine, generation_of(engine))


def repaired(engine: sa.Engine) -> VerifyReport:
    return repair.repair(engine, generation_of(engine))


FAULTS = {
    "missing": "DELETE FROM article_semantic_receipt WHERE id = 2",
    "stale": "ALTER TABLE article DISABLE TRIGGER article_semantic_capture_update; "
    "UPDATE article SET body = 'new' WHERE id = 2; "
    "ALTER TABLE article ENABLE TRIGGER article_semantic_capture_update",
    "damaged": "DELETE FROM article_semantic WHERE id = 2",
    "wrong_encoder": "ALTER TABLE article_semantic DROP CONSTRAINT article_semantic_encoder; "
    "UPDATE article_semantic SET encoder_id = 7 WHERE id = 2",
    "orphan": "ALTER TABLE article DISABLE TRIGGER article_semantic_capture_replica; "
    "SET session_replication_role = replica; DELETE FROM article WHERE id = 2; RESET session_replication_role; "
    "ALTER TABLE article ENABLE REPLICA TRIGGER article_semantic_capture_replica",
}


def test_a_synced_table_is_clean(synced: sa.Engine) -> None:
    report = verified(synced)
    assert report == VerifyReport(NAME, rows=5)
    assert report.clean


def broken(engine: sa.Engine, kind: str) -> None:
    with engine.begin() as connection:
        for statement in FAULTS[kind].split("; "):
            connection.execute(sa.text(statement))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_named_and_mended(synced: sa.Engine, kind: str) -> None:
    broken(synced, kind)
    found = verified(synced)
    assert found.keys == {kind: ["2"]}
    assert getattr(found, kind) == 1
    assert not found.clean
    assert repaired(synced).keys == found.keys
    assert jobs(synced) == (set() if kind == "orphan" else {"2"})
    sync(synced)
    assert verified(synced) == VerifyReport(NAME, rows=4 if kind == "orphan" else 5)
    assert truth(synced) == CLEAN


def test_a_chunk_whose_content_was_changed_by_hand_is_damaged_and_made_anew(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article_semantic SET content = 'forged' WHERE id = 3")
    assert verified(synced).keys == {"damaged": ["3"]}
    repaired(synced)
    sync(synced)
    assert rows(synced, "SELECT content FROM article_semantic WHERE id = 3") == [("title 3\n\nbody 3",)]


def test_an_orphaned_receipt_is_found_and_deleted(synced: sa.Engine) -> None:
    broken(synced, "orphan")
    execute(synced, "DELETE FROM article_semantic WHERE id = 2")
    assert verified(synced).keys == {"orphan": ["2"]}
    repaired(synced)
    assert rows(synced, "SELECT count(*) FROM article_semantic_receipt WHERE id = 2") == [(0,)]


def test_rows_that_wait_for_a_worker_are_no_fault(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new' WHERE id = 1")
    execute(synced, "INSERT INTO article VALUES (6, 'six', NULL, 'en')")
    report = verified(synced)
    assert (report.clean, report.waiting, report.keys) == (True, 2, {"waiting": ["1", "6"]})


def test_rows_that_backfill_has_not_come_to_are_no_fault(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    execute(articles, "DELETE FROM semantic.mark")
    assert (verified(articles).clean, verified(articles).waiting) == (True, 1)


def test_a_parked_row_is_a_fault_that_repair_leaves_to_retry(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new' WHERE id = 1")
    fold(synced)
    execute(synced, "UPDATE semantic.job SET state = 'failed'")
    assert (verified(synced).clean, verified(synced).keys) == (False, {"failed": ["1"]})
    repaired(synced)
    assert rows(synced, "SELECT state FROM semantic.job") == [("failed",)]


def test_blank_rows_are_clean(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, NULL, '  ', 'en'), (2, '', E'\\n', 'en')")
    sync(articles)
    assert verified(articles) == VerifyReport(NAME, rows=2)


def test_verify_changes_nothing(synced: sa.Engine) -> None:
    broken(synced, "orphan")
    execute(synced, "DELETE FROM article_semantic WHERE id = 3")
    everything = (
        "SELECT id, xmin::text FROM article_semantic UNION ALL SELECT id, xmin::text FROM article_semantic_receipt"
    )
    before = rows(synced, everything)
    verified(synced)
    assert rows(synced, everything) == before
    assert jobs(synced) == set()


def test_a_disabled_trigger_is_reported_and_hung_again_with_what_it_missed(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article DISABLE TRIGGER article_semantic_capture_insert")
    execute(synced, "DROP TRIGGER article_semantic_capture_update ON article")
    execute(synced, "INSERT INTO article VALUES (6, 'six', NULL, 'en')")
    report = verified(synced)
    assert (report.uncaptured, report.keys) == (["public.article"], {"missing": ["6"]})
    repaired(synced)
    execute(synced, "UPDATE article SET body = 'new' WHERE id = 1")
    assert jobs(synced) == {"1", None}  # all rows are compared, the sixth among them
    assert verified(synced).clean
    sync(synced)
    assert truth(synced) == CLEAN


def test_a_large_table_is_gone_through_in_pages_of_its_key(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(engine, "CREATE TABLE note (lang text, no integer, words text, PRIMARY KEY (lang, no))")
    execute(engine, "INSERT INTO note SELECT 'l' || i % 3, i, 'words ' || i FROM generate_series(1, 100) i")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)
    execute(engine, "DELETE FROM note_semantic_receipt WHERE no % 10 = 0")
    monkeypatch.setattr(verify, "PAGE_ROWS", 7)
    pages: list[verify.CheckedPage] = []
    report = verify.verify(engine, generation_of(engine, "note_semantic"), on_page=pages.append)
    assert max(page.rows for page in pages) == 7
    assert (report.rows, report.missing) == (100, 10)


def test_what_is_repaired_while_a_worker_is_at_it_is_not_written_over(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new' WHERE id = 2")
    batch = steps.read(synced, steps.claim(synced))
    execute(synced, "UPDATE article_semantic SET content = 'forged' WHERE id = 2")
    tables = qualified(Article.semantic.tables)
    finding = verify.RowFinding("damaged", "2")
    transaction.patiently(synced, *repair.repair_statements([finding], generation_of(synced), tables))
    assert steps.write(synced, batch) == 0
    sync(synced)
    assert verified(synced).clean
    assert truth(synced) == CLEAN


def test_a_table_that_is_locked_for_a_moment_is_waited_for(synced: sa.Engine) -> None:
    with synced.connect() as other:
        other.execute(sa.text("LOCK TABLE article IN ACCESS EXCLUSIVE MODE"))
        reports: list[VerifyReport] = []
        thread = threading.Thread(target=lambda: reports.append(verified(synced)))
        thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        eventually(lambda: rows(synced, waiting) == [(1,)], "verify to wait", unless=lambda: not thread.is_alive())
        other.rollback()
        thread.join(30)
    assert reports[0].clean


def test_a_key_that_is_written_otherwise_raises_no_false_alarm(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (k numeric PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1.0, 'first')")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)
    execute(engine, "UPDATE note SET words = 'second'")
    execute(engine, "UPDATE note SET k = 1.00")
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean
