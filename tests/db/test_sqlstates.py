"""One row never stops an index: errors by SQLSTATE, as a trigger on the chunk table raises them for some rows."""

import logging
import threading
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from pg_semantic import errors, jobqueue
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import status, verify
from pg_semantic.settings import Settings
from pg_semantic.worker import fast_lane, read_rows
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, encoder, execute, fold, generation_of, jobs, rows, sync, truth

_RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF {when} THEN
        RAISE EXCEPTION 'refused: %', NEW.content USING ERRCODE = '{state}';
    END IF;
    RETURN NEW;
END
$body$
"""


@pytest.fixture
def forty(articles: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """Forty rows that wait, to be one batch; the text of two of them is poison.

    While a stage takes long, as on a busy machine, edits would be seen to beside it, sixteen at a time.
    """
    monkeypatch.setattr(fast_lane, "LOOK_SECONDS", 60.0)
    execute(
        articles,
        "INSERT INTO article SELECT i, CASE WHEN i IN (7, 30) THEN 'poison ' ELSE 'title ' END || i, NULL, 'en' "
        "FROM generate_series(1, 40) i",
    )
    return articles


def refusing(engine: sa.Engine, state: str, when: str = "NEW.content LIKE 'poison%'") -> None:
    """Has the server raise an error as a chunk is written."""
    execute(engine, _RAISE.format(state=state, when=when.replace(":", "\\:")))
    execute(engine, "CREATE TRIGGER refuse BEFORE INSERT ON article_semantic FOR EACH ROW EXECUTE FUNCTION refuse()")


def parked(engine: sa.Engine) -> list[tuple[object, ...]]:
    return rows(engine, "SELECT key, attempts, error FROM semantic.job WHERE state = 'failed' ORDER BY key")


@pytest.mark.parametrize("state", ["22003", "22001", "22P05", "23502", "23514", "54000", "XX001"])
def test_a_row_that_the_database_refuses_is_parked_at_once_and_the_others_are_synced(
    forty: sa.Engine, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(forty, state)
    with caplog.at_level(logging.DEBUG, "pg_semantic"):
        done = sync(forty)
    assert (done.rows, done.rows_failed) == (38, 2)
    [(one, attempts, why), (other, _, _)] = parked(forty)
    assert (one, other, attempts) == ("30", "7", 1)
    assert f"refused: poison 30 (SQLSTATE {state})" in str(why)
    assert "poison" not in caplog.text
    assert truth(forty).missing == {"7", "30"}
    assert verify.verify(forty, generation_of(forty)).failed == 2


def test_a_changed_text_takes_a_row_that_the_database_refused_back_into_the_queue(forty: sa.Engine) -> None:
    refusing(forty, "22003")
    sync(forty)
    execute(forty, "UPDATE article SET title = 'harmless' WHERE id IN (7, 30)")
    sync(forty)
    assert truth(forty) == CLEAN


def test_a_batch_in_which_every_row_is_refused_parks_each_with_its_own_reason(forty: sa.Engine) -> None:
    refusing(forty, "22003", when="true")
    sync(forty)
    assert len({why for _, _, why in parked(forty)}) == 40


@pytest.mark.parametrize("state", ["23503", "23505"])
def test_a_row_that_is_gone_or_taken_as_it_is_written_is_read_again_and_no_attempt_counted(
    forty: sa.Engine, state: str
) -> None:
    execute(forty, "CREATE SEQUENCE tries")
    refusing(forty, state, when="NEW.id = 7 AND nextval('public.tries') <= 8")
    sync(forty, max_attempts=4, retry_seconds=0.01)
    assert truth(forty) == CLEAN
    assert jobs(forty) == set()


@pytest.mark.parametrize("state", ["23503", "23505"])
def test_a_row_that_is_always_gone_or_taken_as_it_is_written_is_parked_in_the_end(forty: sa.Engine, state: str) -> None:
    refusing(forty, state, when="NEW.id = 7")
    done = sync(forty, max_attempts=3, retry_seconds=0.01)
    assert done.rows == 39
    [(key, _, why)] = parked(forty)
    assert (key, f"SQLSTATE {state}" in str(why)) == ("7", True)


@pytest.mark.parametrize(
    "unique", ["(content)", "(left(content, 6)) WHERE content LIKE 'poison%'", "(content, ordinal)"]
)
def test_a_unique_index_that_somebody_has_added_parks_the_rows_that_clash_and_no_other(
    forty: sa.Engine, unique: str
) -> None:
    execute(forty, "UPDATE article SET title = 'poison' WHERE title LIKE 'poison%'")
    execute(forty, f"CREATE UNIQUE INDEX ours ON article_semantic {unique}")
    done = sync(forty, max_attempts=3, retry_seconds=0.01)
    assert (done.rows, done.rows_failed) == (39, 1)
    [(key, _, why)] = parked(forty)
    assert key in {"7", "30"}
    assert '"ours" (SQLSTATE 23505)' in str(why)
    assert truth(forty).missing == {key}


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_a_batch_that_meets_another_transaction_is_tried_again_and_no_attempt_counted(
    forty: sa.Engine, state: str
) -> None:
    execute(forty, "CREATE SEQUENCE tries")
    refusing(forty, state, when="nextval('public.tries') <= 3")
    done = sync(forty, max_attempts=1)
    assert (done.rows, done.rows_failed) == (40, 0)
    assert truth(forty) == CLEAN


@pytest.mark.parametrize("state", ["57014", "53100", "53200", "08006", "57P01", "P0001", "XX000", "23P01"])
def test_an_error_that_no_row_is_to_blame_for_puts_the_whole_batch_off_and_counts_nothing(
    forty: sa.Engine, state: str
) -> None:
    refusing(forty, state)
    with pytest.raises(errors.DatabaseError):
        sync(forty, max_attempts=1)
    waiting = "SELECT DISTINCT state, attempts, claim FROM semantic.job"
    assert rows(forty, waiting) == [("pending", 0, None)]
    assert len(jobs(forty)) == 40
    execute(forty, "DROP TRIGGER refuse ON article_semantic")
    sync(forty, max_attempts=1)
    assert truth(forty) == CLEAN


class Fragile(HashedEncoder):
    """Fails on any batch that has the word poison in it."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if any("poison" in text for text in texts):
            raise RuntimeError("the encoder choked")
        return super().encode_documents(texts)


@pytest.mark.parametrize("state", ["53100", "57014", "57P01", "P0001"])
def test_of_a_write_that_is_cut_short_only_what_was_committed_is_counted(
    forty: sa.Engine, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(forty, state, when="(SELECT count(*) FROM public.article_semantic_receipt) >= 10")
    worker = Worker(forty, Settings(write_seconds=1e-9, max_attempts=1), load=lambda *_, **__: Fragile(32))
    with pytest.raises(errors.DatabaseError):
        worker.run(threading.Event(), once=True)
    [(synced,)] = rows(forty, "SELECT count(*) FROM public.article_semantic_receipt")
    assert synced >= 10
    assert (worker.progress.rows, worker.progress.rows_failed) == (synced, 0)
    assert "choked" not in caplog.text
    assert "failed: RuntimeError" not in caplog.text
    assert parked(forty) == []


def test_a_failure_of_a_text_that_was_changed_meanwhile_is_not_counted(forty: sa.Engine) -> None:
    class Edited(Fragile):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            execute(forty, "UPDATE article SET title = 'harmless' WHERE id IN (7, 30) AND title <> 'harmless'")
            fold(forty)
            return super().encode_documents(texts)

    done = sync(forty, lambda *_, **__: Edited(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (40, 0)
    assert truth(forty) == CLEAN


def test_a_row_that_cannot_be_read_is_parked_and_the_others_are_synced(forty: sa.Engine) -> None:
    """A key that an older worker could read is beyond the type that the registry has."""
    with forty.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO semantic.job (generation_id, key) SELECT id, 'x' FROM semantic.generation")
        )
    assert sync(forty).rows == 40
    [(key, attempts, why)] = parked(forty)
    assert (key, attempts, "22P02" in str(why)) == ("x", 1, True)
    assert truth(forty) == CLEAN


def test_a_row_whose_stored_chunks_cannot_be_read_is_refused_alone(forty: sa.Engine) -> None:
    sync(forty)
    execute(forty, "UPDATE article SET title = title || ' again'")
    fold(forty)
    generation = generation_of(forty)
    execute(
        forty,
        f"CREATE OR REPLACE VIEW semantic.chunks_{generation.id} AS SELECT id, ordinal / nullif(CASE id WHEN 7 THEN 0 "
        "ELSE 1 END, 2) AS ordinal, content, vector, content_hash, encoder_id, token_count, truncated, embedded_at "
        "FROM article_semantic",
    )
    with forty.begin() as connection:
        claim = jobqueue.claim(connection, generation.id, rows=100, lease_seconds=60)
    batch = read_rows.read(forty, generation.tables, claim, counter=encoder())
    assert list(batch.refused) == ["7"]
    assert "division by zero" in batch.refused["7"]
    assert len(batch.rows) == 39


def test_status_says_why_an_index_is_not_kept_in_sync_until_it_is_again(forty: sa.Engine) -> None:
    refusing(forty, "P0001", when="true")
    with pytest.raises(errors.DatabaseError):
        sync(forty)
    with forty.connect() as connection:
        [index] = status.read(connection).indexes
    [problem] = index.problems
    assert (problem.kind, problem.failures) == ("sync", 1)
    assert "SQLSTATE P0001" in problem.reason
    execute(forty, "DROP TRIGGER refuse ON article_semantic")
    sync(forty)
    with forty.connect() as connection:
        [index] = status.read(connection).indexes
    assert index.problems == []
