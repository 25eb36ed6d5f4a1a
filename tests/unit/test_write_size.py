"""How the write stage divides a batch into transactions."""

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.index.chunking import TextChunk
from pg_semantic.jobqueue import Job
from pg_semantic.worker.batch import BatchRow
from pg_semantic.worker.write_size import WriteSizer, chunks_of


def row_of(number: int, new: int) -> BatchRow:
    """A row with so many new chunks."""
    chunks = tuple((ordinal, TextChunk("tea", 1, truncated=False)) for ordinal in range(new))
    return BatchRow(Job(str(number), 1), (b"",), "", b"", new=chunks, kept=(), truncated=False)


def rows_of(*new: int) -> list[BatchRow]:
    return [row_of(number, count) for number, count in enumerate(new)]


def sizer(chunks: int) -> WriteSizer:
    """One that writes so many chunks and receipts in a transaction."""
    size = WriteSizer(chunks / 2560)
    assert size.chunks == chunks
    return size


def sizes(*new: int, limit: int) -> list[list[int]]:
    rows, size, found = rows_of(*new), sizer(limit), []
    while share := size.share(rows):
        found.append([len(row.new) for row in share])
        rows = rows[len(share) :]
    return found


_rows = st.lists(st.integers(0, 100), max_size=50).map(lambda counts: rows_of(*counts))
_limits = st.integers(1, 120)


@given(_rows, _limits)
def test_a_share_has_the_first_rows_and_no_more_chunks_than_fit_or_one_row(rows: list[BatchRow], limit: int) -> None:
    size = sizer(limit)
    share = size.share(rows)
    assert list(share) == rows[: len(share)]
    assert len(share) == min(1, len(rows)) or chunks_of(share) <= size.chunks


@given(_rows, _limits)
def test_a_share_has_as_many_rows_as_fit(rows: list[BatchRow], limit: int) -> None:
    size = sizer(limit)
    share = size.share(rows)
    assert len(share) == len(rows) or chunks_of(rows[: len(share) + 1]) > size.chunks


def test_rows_are_written_together_while_there_is_room() -> None:
    assert sizes(1, 1, 1, 1, 1, limit=4) == [[1, 1], [1, 1], [1]]  # a receipt counts as much as a chunk
    assert sizes(3, 3, limit=100) == [[3, 3]]


def test_a_row_of_many_chunks_has_a_transaction_of_its_own() -> None:
    assert sizes(1, 50, 1, limit=10) == [[1], [50], [1]]


def test_the_size_follows_the_speed_up_in_steps_and_down_at_once() -> None:
    size = WriteSizer(0.1)
    assert size.chunks == 256
    size.learn(256, 0.01)
    assert size.chunks == 512
    size.learn(512, 0.01)
    assert size.chunks == 1024
    size.learn(1024, 0.4)
    assert size.chunks == 256


def test_a_transaction_is_never_so_small_that_it_takes_as_long_as_an_empty_one() -> None:
    size = WriteSizer(0.05)
    size.learn(128, 60.0)
    assert size.chunks == 32


def test_what_an_empty_transaction_takes_does_not_make_transactions_small() -> None:
    size = WriteSizer(0.1)
    for _ in range(20):
        size.learn(2, 0.5)
    for _ in range(10):
        size.learn(size.chunks, 0.5 + size.chunks / 2000)
    assert 180 <= size.chunks <= 200


def test_a_small_transaction_says_nothing_about_the_speed() -> None:
    size = WriteSizer(0.1)
    size.learn(2, 0.2)
    size.learn(40, 0.001)
    assert size.chunks == 256


def test_writes_with_and_without_a_vector_index_have_speeds_of_their_own() -> None:
    size = WriteSizer(0.1)
    size.learn(256, 0.01)
    size.is_indexed = True
    assert size.chunks == 128
    size.learn(128, 0.2)
    size.is_indexed = False
    assert size.chunks == 512
