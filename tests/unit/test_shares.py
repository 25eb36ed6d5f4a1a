"""How the write stage divides a batch into transactions."""

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.index.chunking import TextChunk
from pg_semantic.jobqueue import Job
from pg_semantic.worker import write_chunks
from pg_semantic.worker.batch import BatchRow


def row_of(number: int, new: int) -> BatchRow:
    """A row with so many new chunks."""
    chunks = tuple((ordinal, TextChunk("tea", 1, truncated=False)) for ordinal in range(new))
    return BatchRow(Job(str(number), 1), (b"",), "", b"", new=chunks, kept=(), truncated=False)


def rows_of(*new: int) -> list[BatchRow]:
    return [row_of(number, count) for number, count in enumerate(new)]


def sizes(*new: int, limit: int) -> list[list[int]]:
    return [[len(row.new) for row in share] for share in write_chunks._shares(rows_of(*new), limit)]


_rows = st.lists(st.integers(0, 100), max_size=50).map(lambda counts: rows_of(*counts))
_limits = st.integers(1, 120)


@given(_rows, _limits)
def test_every_row_is_in_one_share_in_the_order_given(rows: list[BatchRow], limit: int) -> None:
    assert [row for share in write_chunks._shares(rows, limit) for row in share] == rows


@given(_rows, _limits)
def test_a_share_has_at_most_so_many_chunks_or_one_row(rows: list[BatchRow], limit: int) -> None:
    shares = list(write_chunks._shares(rows, limit))
    assert all(share for share in shares)
    assert all(len(share) == 1 or sum(len(row.new) for row in share) <= limit for share in shares)


@given(_rows, _limits)
def test_a_share_has_at_most_so_many_rows(rows: list[BatchRow], limit: int) -> None:
    assert all(len(share) <= limit for share in write_chunks._shares(rows, limit))


def test_rows_are_written_together_while_there_is_room() -> None:
    assert sizes(1, 1, 1, 1, 1, limit=4) == [[1, 1], [1, 1], [1]]  # a receipt counts as much as a chunk
    assert sizes(3, 3, limit=100) == [[3, 3]]


def test_a_row_of_many_chunks_has_a_transaction_of_its_own() -> None:
    assert sizes(1, 50, 1, limit=10) == [[1], [50], [1]]


def test_no_rows_make_no_transaction() -> None:
    assert sizes(limit=10) == []
