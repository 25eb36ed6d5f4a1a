"""More workers than anybody needs, at once and on the same rows."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from pg_semantic import encoders
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, execute, jobs, rows, truth

WORKERS = 20


@pytest.fixture
def roomy(articles: sa.Engine) -> Iterator[sa.Engine]:
    """An engine with connections for twenty workers."""
    made = sa.create_engine(articles.url, pool_size=60)
    yield made
    made.dispose()


def work(engine: sa.Engine, encoder: encoders.Encoder) -> list[Progress]:
    """What each of the workers did until no job was left."""

    def run(_: int) -> Progress:
        settings = Settings(batch_rows=5, poll_seconds=0.01)
        return Worker(engine, settings, load=lambda *_, **__: encoder).run(threading.Event(), once=True)

    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(run, range(WORKERS)))


def test_twenty_workers_at_once_do_each_row_once_and_build_one_vector_index(roomy: sa.Engine) -> None:
    execute(roomy, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 400) i")
    done = work(roomy, HashedEncoder(32))
    assert sum(progress.rows for progress in done) == 400
    # A batch whose rows were busy when they were to be written is encoded again, by whoever takes it then.
    assert 400 <= sum(progress.chunks_encoded for progress in done) < 440
    assert truth(roomy) == CLEAN
    assert jobs(roomy) == set()
    assert rows(roomy, "SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE '%vector_idx%'") == [
        (True,)
    ]


def test_rows_that_are_edited_under_the_hands_of_twenty_workers_end_true(roomy: sa.Engine) -> None:
    edits = iter(range(1, 60))

    class EditsARow(HashedEncoder):
        """An application writes just when a worker is encoding."""

        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if number := next(edits, None):
                execute(roomy, "UPDATE article SET title = 'edit ' || :number WHERE id = :number % 7", number=number)
                execute(roomy, "DELETE FROM article WHERE id = 50 + :number", number=number)
            return super().encode_documents(texts)

    execute(roomy, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 200) i")
    work(roomy, EditsARow(32))
    assert truth(roomy) == CLEAN
    assert jobs(roomy) == set()
