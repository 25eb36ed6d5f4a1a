"""Measures the search for near-duplicates: the share of all similar pairs that it finds, and its time per row.

    make bench-duplicates

Encodes the tldr pages in the package with the real all-MiniLM-L6-v2, in chunks as by default, and finds all pairs of
pages whose similarity is at least 0.95, 0.9 or 0.8. The truth comes from numpy, which compares all stored vectors.
Results for each least similarity:

* ``pairs``: how many pairs there are.
* ``found_share``: the share of them that `search.duplicates` finds; goal 0.99 at 0.9.
* ``ms_per_row``: its time over the number of rows, in milliseconds; goal 1 at 0.9.
* ``groups_ms_per_row``: the same for `search.groups`.
"""

import argparse
import json
import threading
import time

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks import server
from pg_semantic import search, settings
from pg_semantic.cli import progress
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.worker.worker import Worker

LEAST = (0.95, 0.9, 0.8)
MOST_PAIRS = 1_000_000
_BLOCK = 1_000  # chunks that numpy compares with all others at once
_ROUNDING = 1e-5  # of the similarities of 16-bit vectors, so that pairs at the threshold don't count as missed

Pairs = set[tuple[int, int]]


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true", help="use only 1,000 pages")
    given = parser.parse_args()
    with server.running() as postgres:
        engine = postgres.create("duplicates")
        rows = _fill(engine, only_sample=given.sample)
        results = {str(least): _measured(engine, rows, least) for least in LEAST}
        engine.dispose()
    print(json.dumps({"rows": rows, **results}))


def _fill(engine: sa.Engine, *, only_sample: bool) -> int:
    tldr_pages.Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        rows = tldr_pages.load(session, only_sample=only_sample)
    with progress.bar(engine, shown=True) as advance:
        Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    server.execute(engine, "VACUUM ANALYZE")
    return rows


def _measured(engine: sa.Engine, rows: int, least: float) -> dict[str, float]:
    with orm.Session(engine) as session:
        started = time.perf_counter()
        pairs = search.duplicates(session, Page.semantic, least=least, limit=MOST_PAIRS)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        groups = search.groups(session, Page.semantic, least=least)
        groups_seconds = time.perf_counter() - started
        found = {(pair.first.id, pair.second.id) for pair in pairs}
        truth = _all_pairs(session, least + _ROUNDING)
    share = len(found & truth) / len(truth) if truth else 1.0
    print(
        f"{least}: {len(truth)} pairs, {share:.4f} found, {seconds:.1f} s; {len(groups)} groups, {groups_seconds:.1f} s"
    )
    return {
        "pairs": len(truth),
        "found_share": round(share, 4),
        "ms_per_row": round(1000 * seconds / rows, 3),
        "groups_ms_per_row": round(1000 * groups_seconds / rows, 3),
    }


def _all_pairs(session: orm.Session, least: float) -> Pairs:
    """Returns the pairs of pages whose most similar chunks are that similar, by comparing all chunks."""
    chunks = Page.semantic.tables.chunks.c
    stored = session.execute(sa.select(chunks.id, chunks.vector)).all()
    pages = np.array([page for page, _ in stored])
    vectors = np.array([vector for _, vector in stored], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Pairs = set()
    for start in range(0, len(pages), _BLOCK):
        ones, others = np.nonzero(vectors[start : start + _BLOCK] @ vectors.T >= least)
        pairs = zip(pages[start + ones].tolist(), pages[others].tolist(), strict=True)
        found |= {(one, other) for one, other in pairs if one < other}
    return found


if __name__ == "__main__":
    main()
