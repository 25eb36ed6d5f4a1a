"""Measures what large rows cost a worker: its memory, and the time to split texts without sentences.

    make bench-memory

A worker with the hashed encoder processes 400 rows of 2 MB for a minute and a half. Most of that time goes into the
vector index, and memory doesn't grow after the first batches. ``peak_mib`` is the peak memory of its process; goal 400.

Then each of the hostile texts is split at 1 and at 10 million characters: by the words of the hashed encoder, by the
estimate for remote encoders, and by a real tokenizer. ``chunking_ratio_max`` is the worst ratio of the processor times
of the two lengths; goal 12.
"""

import argparse
import json
import time

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import footprint, hostile, scifact, server
from pg_semantic import SemanticIndex
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.local import weights
from pg_semantic.encoders.remote.token_counter import EstimatingTokenCounter, TokenizerTokenCounter
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking, TokenCounter

GOAL_MIB, GOAL_RATIO = 400, 12
_MAX_TOKENS = 256
_ENOUGH_SECONDS = 2.0  # processor time per text; a text that takes longer is split once


class Base(orm.DeclarativeBase):
    """The table of large rows."""


class Page(Base):
    """A large row."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]

    semantic = SemanticIndex("body", encoder="hashed:64")


class Sized:
    """A counter with the limit of an encoder."""

    max_tokens = _MAX_TOKENS

    def __init__(self, counter: EstimatingTokenCounter | TokenizerTokenCounter) -> None:
        self.count_tokens = counter.count_tokens
        self.splitter = counter.splitter


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--row-bytes", type=int, default=2_000_000)
    parser.add_argument("--characters", type=int, default=1_000_000, help="length of the shorter of two hostile texts")
    parser.add_argument("--seconds", type=float, default=90.0, help="how long the worker runs, in seconds")
    given = parser.parse_args()
    ratios = {
        f"{name}, {text}": _ratio(counter, text, given.characters)
        for name, counter in _rulers()
        for text in hostile.TEXTS
    }
    with server.running() as postgres:
        engine = postgres.create("pages")
        _fill(engine, given.rows, given.row_bytes)
        peak = footprint.worker_peak(engine, seconds=given.seconds)
        synced = _synced(engine)
    worst = max(ratios, key=ratios.__getitem__)
    figures = {
        "rows": given.rows,
        "row_bytes": given.row_bytes,
        "peak_mib": round(peak),
        "rows_synced": synced,
        "characters": given.characters,
        "chunking_ratio_max": round(ratios[worst], 2),
        "chunking_worst": worst,
        "ok": synced > 0 and peak <= GOAL_MIB and ratios[worst] <= GOAL_RATIO,
    }
    print(json.dumps(figures))


def _rulers() -> list[tuple[str, TokenCounter]]:
    tokenizer = TokenizerTokenCounter.load(str(weights.folder(scifact.ENCODER, {})), prompt="")
    return [
        ("words", HashedEncoder(8, max_tokens=_MAX_TOKENS)),
        ("estimate", Sized(EstimatingTokenCounter(prompt=""))),
        ("tokenizer", Sized(tokenizer)),
    ]


def _ratio(counter: TokenCounter, name: str, size: int) -> float:
    """Returns the processor time for a text of ten times the size, over that for a text of the size."""
    short, long = (_seconds(counter, hostile.TEXTS[name](length)) for length in (size, 10 * size))
    print(f"{name}: {short:.2f} s for {size:,} characters, {long:.2f} s for {10 * size:,}", flush=True)
    return long / short


def _seconds(counter: TokenCounter, text: str) -> float:
    """Returns the shortest of a few measurements, since a single short one is noisy."""
    taken: list[float] = []
    while sum(taken) < _ENOUGH_SECONDS:
        started = time.process_time()
        chunking.chunk([text], Chunking(), counter)
        taken.append(time.process_time() - started)
    return min(taken)


def _fill(engine: sa.Engine, rows: int, size: int) -> None:
    Base.metadata.create_all(engine)
    fill = "INSERT INTO page SELECT i, repeat('a harbour ' || i || ' ', :times) FROM generate_series(1, :rows) AS i"
    with engine.begin() as connection:
        connection.execute(sa.text(fill), {"times": size // 13, "rows": rows})


def _synced(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM page_semantic_receipt")).scalar_one())


if __name__ == "__main__":
    main()
