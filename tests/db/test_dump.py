"""A database that is dumped and restored elsewhere, with pg_dump and pg_restore."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pg_semantic import database, embedded
from tests.conftest import copy_of
from tests.db.library import CLEAN, execute, fold, jobs, rows, sync, truth


@pytest.fixture
def elsewhere(server: sa.URL) -> Iterator[sa.Engine]:
    """An engine of another database, which is empty."""
    with copy_of(server, "template0") as made:
        engine = database.connect(made)
        yield engine
        engine.dispose()


def dump_and_restore(here: sa.URL, there: sa.URL, file: Path) -> None:
    programs = embedded.psql(Path(str(here.query["host"]))).parent
    source, target = (url.set(drivername="postgresql").render_as_string(hide_password=False) for url in (here, there))
    subprocess.run([programs / "pg_dump", "--format=custom", f"--file={file}", source], check=True)
    subprocess.run([programs / "pg_restore", "--exit-on-error", f"--dbname={target}", file], check=True)


def test_a_restored_database_has_its_vectors_and_goes_on_being_synced(
    articles: sa.Engine, elsewhere: sa.Engine, tmp_path: Path
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'waits' WHERE id = 1")
    dump_and_restore(articles.url, elsewhere.url, tmp_path / "dump")
    assert jobs(elsewhere) == {"1"}
    execute(elsewhere, "UPDATE article SET title = 'new' WHERE id = 2")
    execute(elsewhere, "DELETE FROM article WHERE id = 3")
    done = sync(elsewhere)
    assert (done.rows, done.chunks_encoded) == (3, 2)  # the deleted one is seen to
    assert truth(elsewhere) == CLEAN
    assert jobs(elsewhere) == set()
    assert rows(elsewhere, "SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE '%vector_idx'") == [
        (True,)
    ]


def test_what_a_worker_had_in_hand_when_it_was_dumped_is_done_by_another(
    articles: sa.Engine, elsewhere: sa.Engine, tmp_path: Path
) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    fold(articles)
    execute(
        articles,
        "UPDATE semantic.job SET state = 'processing', claim = gen_random_uuid(), attempts = 1, lease_until = now()",
    )
    dump_and_restore(articles.url, elsewhere.url, tmp_path / "dump")
    assert sync(elsewhere, retry_seconds=0.001).rows == 1
    assert truth(elsewhere) == CLEAN
