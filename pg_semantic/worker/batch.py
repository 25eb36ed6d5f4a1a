"""What travels from stage to stage: the rows of one claim, their chunks, and the vectors as they come to be known."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exc

from pg_semantic import database
from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.chunking import TextChunk
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.worker.chunk_diff import StoredChunk

# What the server writes between the labels of an array, a row or a range.
_PUNCTUATION = re.compile(r'[{}()\[\]",\\]+')

LONG_CHARACTERS = 200_000
"""A row of more text is cut and encoded while the edits of others, of its index too, overtake it."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A claimed row whose text was read: that which ``source_hash`` is of.

    ``identity`` has the key columns in the binary form of COPY. ``new`` are the chunks to be written, with their
    ordinals; ``kept`` the stored chunks that are right where they are; all others are to go.
    """

    job: Job
    identity: tuple[bytes, ...]
    text: str
    source_hash: bytes
    new: tuple[tuple[int, TextChunk], ...]
    kept: tuple[StoredChunk, ...]
    truncated: bool

    @property
    def chunk_count(self) -> int:
        """How many chunks the row has once it is written."""
        return len(self.new) + len(self.kept)


@dataclass(slots=True)
class Batch:
    """The rows of one claim; jobs whose row needs no work are only to be completed.

    ``later`` has the keys of rows that were claimed and are too much for one batch, ``long`` those of rows that are too
    long to be seen to beside another; ``characters`` is how much text the others have. ``vectors`` maps a content hash
    to its vector, ``broken`` a content hash to why it could not be encoded. ``uncut`` maps the key of a row to why it
    could not be cut, ``refused`` to why the database cannot read or write it. ``moved`` has the keys of rows that were
    gone, or whose key was another or taken, when they were written; ``stubborn`` those of rows for which that was so
    too often to be true; ``impossible`` those that no row can have. ``written`` is how many rows were synced, and
    ``recorded`` has the failures that were kept with their jobs: both as committed so far.
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

    def blame(self, job: Job, error: exc.DBAPIError) -> None:
        """Notes that one row made the database fail: it is parked, or looked at again if its key may have changed.

        No row has a key that is a label which its enum no longer has: that job is done.
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
        """Whether a row of it takes so long that no edit should wait for it."""
        return any(len(row.text) > LONG_CHARACTERS for row in self.rows)

    @property
    def idle_jobs(self) -> list[Job]:
        """Jobs of rows that are gone, or whose text is as it was when they were last synced."""
        busy = {row.job.key for row in self.rows} | self.refused.keys() | self.moved
        return [job for job in self.claim.jobs if job.key not in busy]

    def missing(self) -> dict[bytes, str]:
        """Texts that have no vector yet, once each, by content hash."""
        texts = {c.content_hash: c.content for row in self.rows for _, c in row.new}
        return {digest: text for digest, text in texts.items() if digest not in self.vectors}

    @property
    def failures(self) -> list[tuple[Job, str]]:
        """Jobs whose row could not be read, cut, encoded or written, each with the reason."""
        found = {row.job.key: reason for row in self.rows if (reason := self.failure(row))} | self.refused
        return [(job, found[job.key]) for job in self.claim.jobs if job.key in found]

    def failure(self, row: BatchRow) -> str | None:
        """Why the row could not be cut, or a chunk of it not be encoded, if that is so."""
        if row.job.key in self.uncut:
            return self.uncut[row.job.key]
        hashes = (chunk.content_hash for _, chunk in row.new)
        return next((self.broken[digest] for digest in hashes if digest in self.broken), None)


def _is_unknown_label(error: exc.DBAPIError, parts: Sequence[str]) -> bool:
    """Whether the server does not know a label that a key has in it, alone or in an array, a row or a range."""
    diag = getattr(error.orig, "diag", None)
    if diag is None or diag.source_function != "enum_in":
        return False
    said = str(diag.message_primary)  # in the server's language, and so within quotation marks of any kind
    labels = {label for part in parts for label in _PUNCTUATION.split(part) if label}
    return any(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", said) for label in labels)
