"""What happens when an edit, a delete, a crash or another worker comes in the middle."""

import pytest
import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.jobqueue import Claim
from pg_semantic.operations import create_index, verify
from pg_semantic.settings import Settings
from pg_semantic.worker import backfill, encode_chunks, read_rows, write_chunks
from pg_semantic.worker.batch import Batch
from tests.db.library import CLEAN, Article, encoder, execute, fold, generation_of, jobs, qualified, rows, sync, truth

TABLES = qualified(Article.semantic.tables)


@pytest.fixture
def one(articles: sa.Engine) -> sa.Engine:
    """A database with one row, not yet synced."""
    execute(articles, "INSERT INTO article VALUES (1, 'first', NULL, 'en')")
    return articles


def claim(engine: sa.Engine) -> Claim:
    with engine.begin() as connection:
        jobqueue.fold(connection, generation_of(engine).id)
        return jobqueue.claim(connection, generation_of(engine).id, rows=100, lease_seconds=60)


def read(engine: sa.Engine, claimed: Claim) -> Batch:
    batch = read_rows.read(engine, TABLES, claimed, counter=encoder())
    encode_chunks.encode(batch, encoder())
    return batch


def write(engine: sa.Engine, batch: Batch) -> int:
    written = write_chunks.write(engine, batch, settings=Settings())
    write_chunks.give_back(engine, batch.claim, [job.key for job in batch.claim.jobs])
    return written


def expire_leases(engine: sa.Engine) -> None:
    execute(engine, "UPDATE semantic.job SET lease_until = now() - interval '1 second' WHERE state = 'processing'")
    with engine.begin() as connection:
        jobqueue.reap(connection, max_attempts=5, retry_seconds=0)


def test_an_edit_while_its_row_is_being_encoded_is_not_lost(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    execute(one, "UPDATE article SET title = 'second'")
    write(one, batch)
    assert jobs(one) == {"1"}
    sync(one)
    assert truth(one) == CLEAN


def test_a_newer_version_can_be_claimed_while_the_older_is_still_being_encoded(one: sa.Engine) -> None:
    slow = read(one, claim(one))
    execute(one, "UPDATE article SET title = 'second'")
    fast = read(one, claim(one))
    assert write(one, fast) == 1
    assert write(one, slow) == 0
    assert truth(one) == CLEAN


def test_a_worker_whose_lease_ran_out_writes_nothing_over_a_newer_vector(one: sa.Engine) -> None:
    slow = read(one, claim(one))
    expire_leases(one)
    execute(one, "UPDATE article SET title = 'second'")
    sync(one)
    assert write(one, slow) == 0
    assert truth(one) == CLEAN


def test_a_job_made_anew_with_the_same_version_is_not_ended_by_the_claim_before(one: sa.Engine) -> None:
    slow = read(one, claim(one))
    expire_leases(one)
    sync(one)
    execute(one, "UPDATE article SET title = 'second'")
    fold(one)
    assert rows(one, "SELECT version FROM semantic.job") == [(slow.claim.jobs[0].version,)]
    assert write(one, slow) == 0
    assert jobs(one) == {"1"}


def test_a_row_deleted_while_it_is_being_encoded_leaves_no_orphan(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    execute(one, "DELETE FROM article")
    assert write(one, batch) == 0
    assert truth(one) == CLEAN
    sync(one)
    assert jobs(one) == set()


def test_a_row_deleted_and_inserted_anew_while_it_is_being_encoded_gets_the_new_text(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    execute(one, "DELETE FROM article")
    execute(one, "INSERT INTO article VALUES (1, 'another', NULL, 'en')")
    write(one, batch)
    assert jobs(one) == {"1"}
    sync(one)
    assert truth(one) == CLEAN


def test_a_key_that_changes_while_its_row_is_being_encoded_leaves_no_orphan(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    execute(one, "UPDATE article SET id = 2")
    assert write(one, batch) == 0
    sync(one)
    assert truth(one) == CLEAN
    assert jobs(one) == set()


@pytest.mark.parametrize("crash_after", ["claim", "read"])
def test_the_work_of_a_worker_that_died_is_done_by_another(one: sa.Engine, crash_after: str) -> None:
    claimed = claim(one)
    if crash_after == "read":
        read(one, claimed)
    assert claim(one).jobs == ()
    expire_leases(one)
    sync(one)
    assert truth(one) == CLEAN


def test_a_crash_in_the_middle_of_a_write_leaves_all_as_it_was(
    articles: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 10) i")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'new ' || id")
    batch = read(articles, claim(articles))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write_chunks, "_sign_receipts", crash)
    with pytest.raises(KeyboardInterrupt):
        write(articles, batch)
    assert len(jobs(articles)) == 10
    assert rows(articles, "SELECT count(*) FROM article_semantic WHERE content LIKE 'title %'") == [(10,)]


def test_a_worker_does_not_wait_for_a_writers_open_transaction(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    with one.connect() as connection:
        connection.execute(sa.text("SELECT FROM article FOR UPDATE"))
        assert write(one, batch) == 0
        connection.rollback()
    assert rows(one, "SELECT state, attempts FROM semantic.job") == [("pending", 0)]
    sync(one)
    assert truth(one) == CLEAN


@pytest.mark.parametrize("table", ["article", "article_semantic", "article_semantic_receipt"])
def test_a_worker_gives_way_to_who_locks_a_table(one: sa.Engine, table: str) -> None:
    batch = read(one, claim(one))
    with one.connect() as connection:
        connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        assert write(one, batch) == 0
        connection.execute(sa.text("UPDATE article SET title = 'second'"))
        connection.commit()
    assert rows(one, "SELECT state, attempts FROM semantic.job") == [("pending", 0)]
    sync(one)
    assert truth(one) == CLEAN


def test_what_is_written_beside_an_open_edit_is_made_true_after_it(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    with one.connect() as connection:
        connection.execute(sa.text("UPDATE article SET title = 'second' WHERE id = 1"))
        assert write(one, batch) == 1
        connection.commit()
    assert jobs(one) == {"1"}
    sync(one)
    assert truth(one) == CLEAN


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    "statement", ["UPDATE article SET title = 'second'", "INSERT INTO article SELECT 2, title FROM article"]
)
def test_an_application_with_a_snapshot_is_not_failed_by_a_worker(one: sa.Engine, level: str, statement: str) -> None:
    execute(one, "ALTER TABLE article ALTER lang SET DEFAULT 'en'")
    with one.connect().execution_options(isolation_level=level) as connection:
        connection.execute(sa.text("SELECT FROM article"))
        assert write(one, read(one, claim(one))) == 1
        connection.execute(sa.text(statement))
        connection.commit()
    sync(one)
    assert truth(one) == CLEAN


def test_a_job_that_another_worker_had_locked_is_given_back_when_it_lets_go(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    keys = [job.key for job in batch.claim.jobs]
    with one.connect() as connection:
        connection.execute(sa.text("SELECT FROM semantic.job FOR UPDATE"))
        assert write(one, batch) == 0
        assert write_chunks.give_back(one, batch.claim, keys) == ["1"]
        connection.rollback()
    assert write_chunks.give_back(one, batch.claim, keys) == []
    assert rows(one, "SELECT state, attempts FROM semantic.job") == [("pending", 0)]


def test_an_unchanged_row_whose_job_is_locked_is_not_taken_for_done(one: sa.Engine) -> None:
    sync(one)
    execute(one, "INSERT INTO semantic.job (generation_id, key) SELECT id, '1' FROM semantic.generation")
    batch = read(one, claim(one))
    assert batch.rows == []
    with one.connect() as connection:
        connection.execute(sa.text("SELECT FROM semantic.job FOR UPDATE"))
        assert write(one, batch) == 0
    assert write(one, batch) == 1
    assert jobs(one) == set()


def test_a_failure_of_an_older_text_is_not_held_against_the_newer(one: sa.Engine) -> None:
    batch = read(one, claim(one))
    batch.broken.update(dict.fromkeys(batch.vectors, "the encoder choked"))
    execute(one, "UPDATE article SET title = 'second' WHERE id = 1")
    assert write(one, batch) == 0
    fold(one)
    assert rows(one, "SELECT state, attempts, error FROM semantic.job") == [("pending", 0, None)]


def test_a_writer_that_rolls_back_leaves_the_row_to_its_claim(one: sa.Engine) -> None:
    claimed = claim(one)
    with one.connect() as connection:
        connection.execute(sa.text("UPDATE article SET title = 'second' WHERE id = 1"))
        connection.rollback()
    assert write(one, read(one, claimed)) == 1
    assert truth(one) == CLEAN


def test_no_lock_is_held_while_encoding(one: sa.Engine) -> None:
    read(one, claim(one))
    with one.begin() as connection:
        connection.execute(sa.text("SET LOCAL lock_timeout = '10ms'"))
        connection.execute(sa.text("UPDATE article SET title = 'second', id = 5"))
        connection.execute(sa.text("DELETE FROM article"))


@pytest.mark.parametrize(
    "meanwhile",
    [
        [
            "DELETE FROM article WHERE id = 1",
            "INSERT INTO article SELECT 1, title, body, lang FROM article WHERE id = 3",
        ],
        [
            "UPDATE article SET id = 2 WHERE id = 1",
            "INSERT INTO article SELECT 1, title, body, lang FROM article WHERE id = 2",
        ],
        ["UPDATE article SET id = 2 WHERE id = 1", "UPDATE article SET id = 1 WHERE id = 4"],
        ["TRUNCATE article_semantic, article_semantic_receipt"],
    ],
)
def test_a_row_whose_kept_chunks_are_gone_when_it_is_written_is_made_anew(
    articles: sa.Engine, meanwhile: list[str]
) -> None:
    def body(edited: str) -> str:
        return "\n\n".join(f"{name} " * 150 for name in ("ant", "bee", edited, "dog"))

    insert = "INSERT INTO article VALUES (:id, NULL, :body, 'en')"
    execute(articles, insert, id=1, body=body("cat"))
    sync(articles)
    execute(articles, "UPDATE article SET body = :body", body=body("cow"))
    batch = read(articles, claim(articles))
    assert batch.rows[0].kept
    execute(articles, "ALTER TABLE article DISABLE TRIGGER USER")
    execute(articles, insert, id=3, body=body("cow"))
    execute(articles, insert, id=4, body=body("cow") + "elk")
    execute(articles, "ALTER TABLE article ENABLE TRIGGER USER")
    with articles.begin() as connection:
        for statement in meanwhile:
            connection.execute(sa.text(statement))
    assert write(articles, batch) == 0
    execute(articles, "INSERT INTO semantic.mark SELECT id, NULL FROM semantic.generation")
    sync(articles)
    assert verify.verify(articles, generation_of(articles)).clean


def test_a_row_that_is_to_be_looked_at_again_is_not_ended_by_what_was_read_before(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'two'")
    execute(articles, "UPDATE article SET title = 'one'")
    batch = read(articles, claim(articles))
    assert batch.idle_jobs
    execute(articles, "TRUNCATE article_semantic, article_semantic_receipt")
    execute(articles, "INSERT INTO semantic.mark SELECT id, NULL FROM semantic.generation")
    fold(articles)
    backfill.advance(articles, TABLES, generation_of(articles).id)
    write(articles, batch)
    sync(articles)
    assert truth(articles) == CLEAN


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_application_with_a_snapshot_may_truncate_beside_a_worker(one: sa.Engine, level: str) -> None:
    with one.connect().execution_options(isolation_level=level) as connection:
        connection.execute(sa.text("SELECT FROM pg_class"))
        assert write(one, read(one, claim(one))) == 1
        connection.execute(sa.text("TRUNCATE article CASCADE"))
        connection.commit()
    sync(one)
    assert truth(one) == CLEAN
    assert jobs(one) == set()


def test_a_key_too_long_for_a_job_holds_up_no_other_and_is_reported(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (k text PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    long = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 82) i)"
    execute(engine, f"INSERT INTO note VALUES ({long}, 'long'), ('short', 'short')")
    assert sync(engine).rows == 1
    report = verify.verify(engine, generation_of(engine, "note_semantic"))
    assert (report.missing, report.clean) == (1, False)
