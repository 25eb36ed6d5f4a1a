"""Rows of megabytes: read by bytes, and no other row waits while one is cut."""

import threading
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.chunking import Split
from pg_semantic.worker import read_changed_texts
from pg_semantic.worker.batch import LONG_CHARACTERS
from pg_semantic.worker.read_changed_texts import Reading, ReadLimits
from tests.db.library import Article, execute, fold, generation_of, jobs, qualified, rows, sync

LONG = 100_000


@pytest.fixture
def claimed(articles: sa.Engine) -> Callable[[ReadLimits], Reading]:
    """Reads jobs of ten short rows, then ten long ones, in that order."""
    execute(articles, "INSERT INTO article SELECT i, 'short', NULL, 'en' FROM generate_series(1, 10) AS i")
    execute(
        articles, f"INSERT INTO article SELECT i, 'long', repeat('é', {LONG}), 'en' FROM generate_series(11, 20) AS i"
    )
    fold(articles)
    generation = generation_of(articles, "article_semantic")
    with articles.begin() as connection:
        claim = jobqueue.claim(connection, generation.id, rows=100, lease_seconds=60)
    jobs = sorted(claim.jobs, key=lambda job: int(job.key))
    return lambda room: read_changed_texts.read(articles, generation.tables, jobs, room=room, blame=lambda *_: None)


def _keys(reading: Reading) -> list[int]:
    return [int(row.job.key) for row in reading.rows]


def test_texts_are_read_up_to_a_bound_of_bytes_and_the_rest_is_left_for_later(
    claimed: Callable[[ReadLimits], Reading],
) -> None:
    reading = claimed(ReadLimits(octets=5 * LONG))
    assert _keys(reading) == [*range(1, 11), 11, 12]  # é has two bytes
    assert reading.later == {str(key) for key in range(13, 21)}
    assert sum(row.octets for row in reading.rows) <= 5 * LONG


def test_a_row_that_is_longer_than_the_bound_is_read_by_itself(
    articles: sa.Engine, claimed: Callable[[ReadLimits], Reading]
) -> None:
    execute(articles, "DELETE FROM article WHERE id <= 10")
    reading = claimed(ReadLimits(octets=1))
    assert _keys(reading) == [11]
    assert len(reading.rows[0].text) > LONG


def test_a_row_too_long_to_be_seen_to_beside_a_batch_is_told_apart(claimed: Callable[[ReadLimits], Reading]) -> None:
    reading = claimed(ReadLimits(longest=LONG))
    assert (_keys(reading), reading.later) == ([*range(1, 11)], set())
    assert reading.long == {str(key) for key in range(11, 21)}


def test_a_long_row_has_the_hash_of_the_text_that_was_read(
    articles: sa.Engine, claimed: Callable[[ReadLimits], Reading]
) -> None:
    for row in claimed(ReadLimits()).rows:
        [(same,)] = rows(
            articles, "SELECT sha256(convert_to(:text, 'UTF8')) = :hash", text=row.text, hash=row.source_hash
        )
        assert same


def test_a_long_text_does_not_come_along_with_the_look_at_its_size(
    articles: sa.Engine, claimed: Callable[[ReadLimits], Reading]
) -> None:
    seen = [row.job for row in claimed(ReadLimits()).rows]
    looked = read_changed_texts._select(articles, qualified(Article.semantic.tables), seen, longest=100)
    assert {(row.text, row.octets > LONG) for row in looked if row.is_open} == {("", True)}
    assert {row.text for row in looked if not row.is_open} == {"short"}


def _is_synced(articles: sa.Engine) -> bool:
    """Whether each row has a receipt for its text, and no job is left."""
    true = "SELECT id FROM article JOIN article_semantic_receipt USING (id) WHERE chunk_count > 0 ORDER BY id"
    return rows(articles, true) == rows(articles, "SELECT id FROM article ORDER BY id") and jobs(articles) == set()


class Busy(HashedEncoder):
    """Is not done with cutting, or with encoding, a long row before it was given an edit that came meanwhile."""

    def __init__(self, edit: Callable[[], None], *, stage: str) -> None:
        super().__init__(32)
        self.overtaken = False
        self._edit = edit
        self._stage = stage
        self._urgent = threading.Event()

    def _hold(self) -> None:
        self._edit()
        self.overtaken = self._urgent.wait(30)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Split:
        split = super().splitter(max_tokens=max_tokens, overlap_tokens=overlap_tokens)

        def held(text: str) -> list[str]:
            if self._stage == "cutting" and not self._urgent.is_set():
                self._hold()
            return split(text)

        return held

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if "urgent" in texts:
            self._urgent.set()
        elif self._stage == "encoding" and not self._urgent.is_set():
            self._hold()
        return super().encode_documents(texts)


@pytest.mark.parametrize("stage", ["cutting", "encoding"])
def test_an_edit_of_the_same_index_overtakes_a_long_row(articles: sa.Engine, stage: str) -> None:
    sync(articles)
    execute(articles, f"INSERT INTO article VALUES (1, 'long', repeat('word ', {LONG_CHARACTERS}), 'en')")
    encoder = Busy(lambda: execute(articles, "INSERT INTO article VALUES (2, 'urgent', NULL, 'en')"), stage=stage)
    sync(articles, lambda *_, **__: encoder)
    assert encoder.overtaken
    assert _is_synced(articles)


def test_a_second_long_row_does_not_hold_up_the_edits_behind_it(articles: sa.Engine) -> None:
    sync(articles)
    execute(articles, f"INSERT INTO article VALUES (1, 'long', repeat('word ', {LONG_CHARACTERS}), 'en')")

    def edit() -> None:
        execute(articles, f"INSERT INTO article VALUES (2, 'long', repeat('other ', {LONG_CHARACTERS}), 'en')")
        execute(articles, "INSERT INTO article VALUES (3, 'urgent', NULL, 'en')")

    encoder = Busy(edit, stage="cutting")
    sync(articles, lambda *_, **__: encoder)
    assert encoder.overtaken
    assert _is_synced(articles)


def test_every_row_is_synced_however_small_the_bound(articles: sa.Engine) -> None:
    execute(
        articles,
        "INSERT INTO article SELECT i, 'title', repeat('word ' || i, 2000), 'en' FROM generate_series(1, 20) i",
    )
    assert sync(articles, batch_bytes=1).rows == 20
    assert _is_synced(articles)
