"""Shows what a switch would change, by running the same queries on the live generation and on another."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation import Judgements, PairedDifference, Variant, input_lines, measures, runs
from pg_semantic.evaluation.evaluate import difference
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.runs import Asked, Encoders, Run
from pg_semantic.index import declare, seeds
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.recall.score_interval import interval
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker

_KEPT_SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
_LONGEST = 200  # characters of a chunk that serves as a query


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the results of another generation differ from those of the live one.

    Attributes:
        index: Name of the index with its schema.
        role: The other generation: ``next`` or ``previous``.
        limit: How many rows each search returned, at most.
        queries: How many queries were run.
        zero: How many of them find nothing, because their vector is all zeros in one of the generations.
        overlap: Mean share of rows that both generations find, 0 to 1; 1 for a query for which neither finds any.
        low: Lower end of the 95% interval of ``overlap``.
        high: Upper end.
        scores: Scores that keep the same share of hits: the share, the score in the live generation, and that in the
            other one. A ``min_score`` of the live one corresponds to that of the other in the same line.
        live_ndcg: nDCG@limit (Järvelin and Kekäläinen 2002) of the live generation, 0 to 1. None without judgements.
        ndcg: That of the other generation.
        difference: How the second differs from the first. None without judgements.
    """

    index: str
    role: str
    limit: int
    queries: int
    zero: int
    overlap: float
    low: float
    high: float
    scores: tuple[tuple[float, float, float], ...]
    live_ndcg: float | None = None
    ndcg: float | None = None
    difference: PairedDifference | None = None


def compare(  # noqa: PLR0913 - options
    engine: sa.Engine,
    generations: tuple[Generation, Generation],
    queries: Sequence[str],
    *,
    judged: Judgements | None = None,
    how: Variant = Variant("dense"),  # noqa: B008 - frozen
    limit: int = 10,
    load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    on_query: Callable[[], object] = lambda: None,
) -> Comparison:
    """Runs queries on the live generation and another one, each with its own encoder. Loads both encoders.

    Args:
        engine: Connects to the database.
        generations: The live one and another.
        queries: The queries. Those that differ only in case, width or white space are one query.
        judged: Judgements of these queries, or of some of them.
        how: How to search both.
        limit: How many rows each search returns.
        load: Loads an encoder. No transaction is open meanwhile.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There is no query.
        errors.MissingExtra: There are judgements, and ir-measures is not installed.
    """
    queries, judged = _distinct(queries), judged and judged.distinct()
    if not queries:
        raise errors.QueryError(
            "Nothing to compare: you passed no queries, and the index has no chunks to take queries from."
        )
    variants = [dataclasses.replace(how, name=one.role, generation=one.role) for one in generations]
    asked = Asked(declare.bind(generations[0].spec), queries, limit, Encoders(None, load), on_query)
    with database.translated(), orm.Session(engine) as session:
        live, other = runs.run(session, variants, asked)
        existing = None if judged is None else judged.resolved(session, asked.index)[0]
    return _compared(live, other, existing, limit=limit)


def _distinct(queries: Sequence[str]) -> list[str]:
    """Returns the first spelling of each query."""
    first: dict[bytes, str] = {}
    for query in queries:
        first.setdefault(query_hash(query), query)
    return list(first.values())


def _compared(live: Run, other: Run, judged: Judgements | None, *, limit: int) -> Comparison:
    pairs = [(keys, other.found[query]) for query, keys in live.found.items()]
    shares = [len(set(a) & set(b)) / max(len(a), len(b)) if a or b else 1.0 for a, b in pairs]
    overlap = sum(shares) / len(shares)
    low, high = interval(overlap, len(shares))
    of = other.generation
    zero = len(live.zero | other.zero)
    plain = Comparison(of.qualified_name, of.role, limit, len(shares), zero, overlap, low, high, _scores(live, other))
    if judged is None:
        return plain
    grades = {query_hash(query): of_query for query, of_query in judged.grades.items()}
    found = {query: grades[known] for query in live.found if (known := query_hash(query)) in grades}
    graded = measures.answerable(found)
    if not graded:
        return plain
    name = f"nDCG@{limit}"
    before, after = (measures.per_query([name], graded, run.found)[name] for run in (live, other))
    return dataclasses.replace(
        plain, live_ndcg=float(before.mean()), ndcg=float(after.mean()), difference=difference(after - before)
    )


def _scores(live: Run, other: Run) -> tuple[tuple[float, float, float], ...]:
    """Returns the scores that keep the same share of the hits of all queries."""
    every = [[score for scores in run.scores.values() for score in scores] for run in (live, other)]
    if not all(every):
        return ()
    before, after = (np.quantile(scores, [1 - share for share in _KEPT_SHARES]) for scores in every)
    return tuple(zip(_KEPT_SHARES, map(float, before), map(float, after), strict=True))


def sampled(engine: sa.Engine, generation: Generation, *, sample: int, seed: int = 0) -> list[str]:
    """Returns the beginnings of random chunks, to use as queries.

    Args:
        engine: Connects to the database.
        generation: The generation to take chunks from.
        sample: How many chunks.
        seed: The same seed gives the same chunks, as long as the rows are the same.
    """
    tables = generation.tables
    order = seeds.order(sa.cast(tables.chunks.c.content_hash, sa.Text), seed)
    beginning = sa.func.left(tables.chunks.c.content, _LONGEST, type_=sa.Text)
    statement = sa.select(beginning).order_by(order, *tables.chunk_key, tables.chunks.c.ordinal).limit(sample)
    with database.translated(), engine.connect() as connection:
        return list(connection.scalars(statement))


def read_queries(path: Path) -> list[str]:
    """Reads a file with one query per line, compressed or not. Skips blank lines.

    Raises:
        errors.ConfigurationError: The file has no query, or cannot be read.
    """
    with input_lines.opened(path) as file:
        queries = [line.strip() for _, line in input_lines.numbered(file)]
    if not queries:
        raise errors.ConfigurationError(f"{path} contains no queries: write one per line.")
    return queries
