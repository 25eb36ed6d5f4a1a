"""An edit waits for no stage of a batch of backfill that is in hand, and for no bulk change."""

import threading
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.settings import Settings
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, execute, fold, rows, sync, truth
from tests.waiting import eventually

EDIT = "INSERT INTO article VALUES (0, 'urgent', NULL, 'en')"
# A chunk of the backlog is not written before that of the edit is, which comes only once one is being written.
HOLD = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        FOR number IN 1..3000 LOOP
            IF NEW.content = 'urgent' OR EXISTS (SELECT FROM public.article_semantic WHERE content = 'urgent') THEN
                RETURN NEW;
            END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
        RAISE 'the edit was not seen to';
    END
    $body$;
    CREATE TRIGGER hold BEFORE INSERT ON article_semantic FOR EACH ROW EXECUTE FUNCTION hold()
"""


@pytest.fixture
def backlog(articles: sa.Engine) -> sa.Engine:
    """Two hundred rows to backfill."""
    sync(articles)
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 200) i")
    fold(articles)
    execute(articles, "UPDATE semantic.job SET priority = 1")
    return articles


class Counting(HashedEncoder):
    """Has an edit come while a backlog is read, and is not done with counting before it was given the edit."""

    def __init__(self, edit: Callable[[], None]) -> None:
        super().__init__(32)
        self._edit = edit
        self._urgent = threading.Event()
        self._counted = False
        self.given_the_edit = False

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if any("title" in text for text in texts) and not self._counted:
            self._counted = True
            self._edit()
            self.given_the_edit = self._urgent.wait(30)
        return super().count_tokens(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if "urgent" in texts:
            self._urgent.set()
        return super().encode_documents(texts)


def test_an_edit_passes_a_backlog_that_is_being_read(backlog: sa.Engine) -> None:
    encoder = Counting(lambda: execute(backlog, EDIT))
    sync(backlog, lambda *_, **__: encoder)
    assert encoder.given_the_edit
    assert truth(backlog) == CLEAN


@pytest.mark.parametrize("batch_rows", [50, 200])
def test_an_edit_passes_a_backlog_that_is_being_written(backlog: sa.Engine, batch_rows: int) -> None:
    execute(backlog, HOLD)
    worker = Worker(backlog, Settings(batch_rows=batch_rows))
    thread = threading.Thread(target=lambda: worker.run(threading.Event(), once=True))
    thread.start()
    asleep = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    eventually(lambda: rows(backlog, asleep), "a chunk to be written", unless=lambda: not thread.is_alive())
    execute(backlog, EDIT)
    thread.join(60)
    assert not thread.is_alive()
    assert truth(backlog) == CLEAN
    assert rows(backlog, "SELECT state, error FROM semantic.job") == []


def test_an_edit_passes_the_rows_of_a_bulk_change_beyond_the_first_thousand(articles: sa.Engine) -> None:
    sync(articles)
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 3000) i")
    execute(articles, EDIT)
    stop = threading.Event()

    def stop_halfway(done: Progress) -> None:
        if done.rows > 1000:
            stop.set()

    Worker(articles, Settings(batch_rows=600), on_progress=stop_halfway).run(stop)
    assert rows(articles, "SELECT content FROM article_semantic WHERE id = 0") == [("urgent",)]
    assert rows(articles, "SELECT count(*) < 3000 FROM article_semantic") == [(True,)]


def test_an_edit_passes_the_load_of_an_encoder_of_another_index(articles: sa.Engine) -> None:
    sync(articles)
    execute(articles, "CREATE TABLE note (id int PRIMARY KEY, words text)")
    loading, seen, stop = threading.Event(), threading.Event(), threading.Event()
    in_time: list[bool] = []

    def load(reference: str, **_: object) -> HashedEncoder:
        if reference == "hashed:48":
            loading.set()
            in_time.append(seen.wait(20))
            return HashedEncoder(48)
        return HashedEncoder(32)

    thread = threading.Thread(
        target=lambda: Worker(articles, Settings(), load=load, on_progress=lambda _: seen.set()).run(stop)
    )
    with articles.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=EncoderSpec("hashed:48", 48))
    create_index.create(articles, spec)
    thread.start()
    assert loading.wait(20)
    execute(articles, EDIT)
    seen.wait(30)
    stop.set()
    thread.join(60)
    assert in_time == [True]
