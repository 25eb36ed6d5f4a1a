"""The batch that travels from stage to stage: the rows of one claim, their chunks, and the vectors known so far."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exc

from pg_semantic import database
from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.chunking import TextChunk
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.worker.chunk_diff import StoredChunk

# Separates the labels in the text format of an array, a row or a range.
_PUNCTUATION = re.compile(r'[{}()\[\]",\\]+')

LONG_CHARACTERS = 200_000
"""While a row with more text is chunked and encoded, other edits overtake it, even those of its own index."""


class BatchRow(NamedTuple):
    """A claimed row whose text was read.

    Attributes:
        job: The claimed job.
        identity: The key columns, in the binary format of COPY.
        text: The text that was read.
        source_hash: The hash of ``text``.
        new: The chunks to write, with their ordinals.
        kept: The stored chunks that are already right. All other stored chunks will be deleted.
        truncated: Whether any chunk is truncated.
        is_new: Whether the row had no receipt.
    """

    job: Job
    identity: tuple[bytes, ...]
    text: str
    source_hash: bytes
    new: tuple[tuple[int, TextChunk], ...]
    kept: tuple[StoredChunk, ...]
    truncated: bool
    is_new: bool = False

    @property
    def chunk_count(self) -> int:
        """The number of chunks that the row will have once it is written."""
        return len(self.new) + len(self.kept)


@dataclass(slots=True)
class Batch:
    """The rows of one claim. Jobs whose row needs no work are only completed.

    Attributes:
        tables: The tables of the generation.
        claim: The claim, without the jobs in ``later`` and ``long``.
        rows: The rows to encode and write.
        characters: How much text the rows have.
        later: Keys of claimed rows that don't fit in this batch.
        long: Keys of claimed rows that are too long to process alongside another batch.
        vectors: Vectors by content hash.
        broken: Why a chunk could not be encoded, by content hash.
        uncut: Why a row could not be chunked, by key.
        refused: Why the database cannot read or write a row, by key.
        moved: Keys of rows that were gone when they were written, or whose key had changed or was taken.
        stubborn: Keys of rows for which that happened too often to be plausible.
        impossible: Keys that no row can have.
        encoded: How many distinct texts were encoded.
        written: How many rows were synced, counting only what is committed. Changed by `count`.
        recorded: The failures that were stored with their jobs, counting only what is committed.
    """

    tables: Tables
    claim: Claim
    rows: list[BatchRow]
    characters: int = 0
    later: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)
    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    broken: dict[bytes, str] = field(default_factory=dict)
    uncut: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    impossible: set[str] = field(default_factory=set)
    encoded: int = 0
    written: int = 0
    recorded: list[tuple[Job, str]] = field(default_factory=list)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, rows: int) -> None:
        """Adds rows that were committed. Several threads may write a batch."""
        with self._counting:
            self.written += rows

    def blame(self, job: Job, error: exc.DBAPIError) -> None:
        """Records that a row made the database fail: parks it, or rereads it if its key may have changed.

        A key with a label that its enum no longer has cannot belong to any row, so its job is done.
        """
        if _is_unknown_label(error, keys.split(job.key, len(self.tables.spec.key))):
            self.impossible.add(job.key)
            return
        if database.fault(error) in {"key", "taken"} and job.key not in self.stubborn:
            self.moved.add(job.key)
        else:
            self.refused[job.key] = database.reason(error)

    @property
    def is_long(self) -> bool:
        """Whether any row takes so long that no edit should wait for it."""
        return any(len(row.text) > LONG_CHARACTERS for row in self.rows)

    @property
    def idle_jobs(self) -> list[Job]:
        """Jobs of rows that are gone, or whose text hasn't changed since they were last synced."""
        busy = {row.job.key for row in self.rows} | self.refused.keys() | self.moved
        return [job for job in self.claim.jobs if job.key not in busy]

    def missing(self) -> dict[bytes, str]:
        """Returns the texts that have no vector yet, each once, by content hash."""
        texts = {c.content_hash: c.content for row in self.rows for _, c in row.new}
        return {digest: text for digest, text in texts.items() if digest not in self.vectors}

    @property
    def failures(self) -> list[tuple[Job, str]]:
        """Jobs whose row could not be read, chunked, encoded or written, each with the reason."""
        found = {row.job.key: reason for row in self.rows if (reason := self.failure(row))} | self.refused
        return [(job, found[job.key]) for job in self.claim.jobs if job.key in found]

    def failure(self, row: BatchRow) -> str | None:
        """Returns why the row could not be chunked or encoded, or None if it could."""
        if not (self.uncut or self.broken):
            return None
        if row.job.key in self.uncut:
            return self.uncut[row.job.key]
        hashes = (chunk.content_hash for _, chunk in row.new)
        return next((self.broken[digest] for digest in hashes if digest in self.broken), None)


def _is_unknown_label(error: exc.DBAPIError, parts: Sequence[str]) -> bool:
    """Whether an enum label in the key, alone or within an array, a row or a range, doesn't exist."""
    diag = getattr(error.orig, "diag", None)
    if diag is None or diag.source_function != "enum_in":
        return False
    said = str(diag.message_primary)  # translated, so the label may be in any kind of quotation marks
    labels = {label for part in parts for label in _PUNCTUATION.split(part) if label}
    return any(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", said) for label in labels)
