"""Shows what a switch would change, by running the same queries on the live generation and on another."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.index import declare, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.registry import Generation
from pg_semantic.search import statements
from pg_semantic.search.recall import interval

Judged: TypeAlias = Mapping[str, Mapping[str, int]]  # query text -> row key -> grade of relevance

_LONGEST = 200  # characters of a chunk that serves as a query


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the results of another generation differ from those of the live one.

    Attributes:
        index: Name of the index with its schema.
        role: The other generation: ``next`` or ``previous``.
        limit: How many rows each search returned, at most.
        queries: How many queries were run.
        overlap: Mean share of rows that both generations find, 0 to 1.
        low: Lower end of the 95% interval of ``overlap``.
        high: Upper end.
        live_ndcg: nDCG@limit (Järvelin and Kekäläinen 2002) of the live generation, 0 to 1. None without judgements.
        ndcg: That of the other generation.
    """

    index: str
    role: str
    limit: int
    queries: int
    overlap: float
    low: float
    high: float
    live_ndcg: float | None
    ndcg: float | None


def compare(
    engine: sa.Engine,
    generations: tuple[Generation, Generation],
    queries: Sequence[str],
    *,
    judged: Judged | None = None,
    limit: int = 10,
    on_query: Callable[[], object] = lambda: None,
) -> Comparison:
    """Runs queries on the live generation and another one, each with its own encoder. Loads both encoders.

    Raises `errors.QueryError` if there is no query, and `errors.MissingExtra` for judgements without ir-measures.
    """
    if not queries:
        raise errors.QueryError(
            "Nothing to compare: you passed no queries, and the index has no chunks to take queries from."
        )
    asked = [_ComparedGeneration.of(one, limit=limit) for one in generations]
    found: list[list[list[str]]] = [[], []]
    with database.translated(), orm.Session(engine) as session:
        for text in queries:
            for run, one in zip(found, asked, strict=True):
                run.append(one.keys(session, text))
            on_query()
    shares = [len(set(a) & set(b)) / (max(len(a), len(b)) or 1) for a, b in zip(*found, strict=True)]
    overlap = sum(shares) / len(shares)
    low, high = interval(overlap, len(shares))
    live_ndcg, ndcg = (_ndcg(queries, run, judged, limit=limit) if judged else None for run in found)
    other = generations[1]
    return Comparison(other.qualified_name, other.role, limit, len(queries), overlap, low, high, live_ndcg, ndcg)


def sampled(engine: sa.Engine, generation: Generation, *, sample: int, seed: int = 0) -> list[str]:
    """Returns the beginnings of random chunks, to use as queries.

    Args:
        engine: Connects to the database.
        generation: The generation to take chunks from.
        sample: How many chunks.
        seed: The same seed gives the same chunks, as long as the rows are the same.
    """
    tables = generation.tables
    order = sa.func.hashtextextended(sa.cast(tables.chunks.c.content_hash, sa.Text), sa.cast(seed, sa.BigInteger))
    beginning = sa.func.left(tables.chunks.c.content, _LONGEST, type_=sa.Text)
    statement = sa.select(beginning).order_by(order, *tables.chunk_key, tables.chunks.c.ordinal).limit(sample)
    with database.translated(), engine.connect() as connection:
        return list(connection.scalars(statement))


def read_queries(path: Path) -> list[str]:
    """Reads a file with one query per line. Skips blank lines.

    Raises:
        errors.ConfigurationError: The file has no query, or cannot be read.
    """
    queries = [line.strip() for line in _lines(path) if line.strip()]
    if not queries:
        raise errors.ConfigurationError(f"{path} contains no queries: write one per line.")
    return queries


def read_judged(path: Path) -> Judged:
    """Reads a file of judgements, with an object ``{"query": "...", "relevant": {"key": 1}}`` on each line.

    Returns:
        For each query, the grade of relevance of each key.

    Raises:
        errors.ConfigurationError: A line is something else, or the file cannot be read.
    """
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            record = json.loads(line)
            relevant = {str(key): int(grade) for key, grade in record["relevant"].items()}
            judged[str(record["query"])] = relevant
        except (ValueError, KeyError, TypeError, AttributeError):
            raise errors.ConfigurationError(
                f'{path}, line {number}: write {{"query": "...", "relevant": {{"key": 1}}}} on each line.'
            ) from None
    return judged


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigurationError(f"Cannot read {path}: {error}.") from None


@dataclass(frozen=True, slots=True)
class _ComparedGeneration:
    """A generation with its encoder."""

    index: BoundIndex[Any]
    encoder: Encoder
    limit: int

    @classmethod
    def of(cls, generation: Generation, *, limit: int) -> "_ComparedGeneration":
        """Loads the encoder of a generation, and binds its tables."""
        known = generation.spec.encoder
        bound = declare.bind(generation.spec)
        tables = dataclasses.replace(generation.tables, source=bound.tables.source)
        encoder = encoders.load(
            known.reference,
            dimensions=known.dimensions,
            query_prompt=known.query_prompt,
            document_prompt=known.document_prompt,
        )
        return cls(dataclasses.replace(bound, tables=tables), encoder, limit)

    def keys(self, session: orm.Session, text: str) -> list[str]:
        """Returns the keys of the nearest rows, best first."""
        vector = self.encoder.encode_queries([text])[0]
        found = statements.knn(self.index, vector, limit=self.limit)
        key = keys.as_text(self.index.tables.source_key)
        return list(session.scalars(found.with_only_columns(key, maintain_column_froms=True)))


def _ndcg(queries: Sequence[str], found: Sequence[Sequence[str]], judged: Judged, *, limit: int) -> float:
    """Returns the mean nDCG of the queries that have judgements."""
    try:
        import ir_measures
    except ModuleNotFoundError as error:
        raise errors.MissingExtra("nDCG needs an extra: pip install 'pg-semantic-index[evaluate]'.") from error
    relevant = [ir_measures.Qrel(text, key, grade) for text in queries for key, grade in judged.get(text, {}).items()]
    run = [
        ir_measures.ScoredDoc(text, key, -rank)
        for text, keys_ in zip(queries, found, strict=True)
        if text in judged
        for rank, key in enumerate(keys_)
    ]
    measure = ir_measures.nDCG @ limit
    return float(ir_measures.calc_aggregate([measure], relevant, run)[measure])
