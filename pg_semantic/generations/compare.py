"""What a switch would change: the same queries asked of the live generation and of another, before anybody sees it."""

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
from pg_semantic.index.declare import BoundIndex
from pg_semantic.registry import Generation
from pg_semantic.search import statements
from pg_semantic.search.recall import interval

Judged: TypeAlias = Mapping[str, Mapping[str, int]]  # texts of queries, to the keys of rows and how relevant these are

_LONGEST = 200  # characters of a chunk that is taken for a query


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the results of two generations differ, at ``limit`` rows.

    ``overlap`` is the mean share of rows that both find, 0 to 1, and ``low`` to ``high`` its 95 % interval.
    ``live_ndcg`` and ``ndcg`` are nDCG@limit (Jaervelin and Kekaelaeinen 2002) of the live one and of the other, 0 to
    1, None without judgements.
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
    """Asks both generations, the live one first, each with its own encoder; needs ir-measures for judgements.

    Loads both encoders. Raises `errors.QueryError` without a query, and `errors.MissingExtra` without ir-measures.
    """
    if not queries:
        raise errors.QueryError("There is nothing to compare: no query was given, and the index has no chunks.")
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
    """Beginnings of random chunks, the same for the same rows and seed, to ask with when there are no queries."""
    tables = generation.tables
    order = sa.func.hashtextextended(sa.cast(tables.chunks.c.content_hash, sa.Text), sa.cast(seed, sa.BigInteger))
    beginning = sa.func.left(tables.chunks.c.content, _LONGEST, type_=sa.Text)
    statement = sa.select(beginning).order_by(order, *tables.chunk_key, tables.chunks.c.ordinal).limit(sample)
    with database.translated(), engine.connect() as connection:
        return list(connection.scalars(statement))


def read_queries(path: Path) -> list[str]:
    """The queries of a file, one on each line; raises `errors.QueryError` when there are none."""
    queries = [line.strip() for line in _lines(path) if line.strip()]
    if not queries:
        raise errors.QueryError(f"{path} has no query: give one on each line.")
    return queries


def read_judged(path: Path) -> Judged:
    """The judgements of a file: on each line ``{"query": "...", "relevant": {"key": 1}}``.

    Raises `errors.QueryError` for a line that is something else.
    """
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            record = json.loads(line)
            relevant = {str(key): int(grade) for key, grade in record["relevant"].items()}
            judged[str(record["query"])] = relevant
        except (ValueError, KeyError, TypeError, AttributeError):
            raise errors.QueryError(
                f'{path}, line {number}: give {{"query": "...", "relevant": {{"key": 1}}}} on each line.'
            ) from None
    return judged


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise errors.QueryError(f"{path} can not be read: {error}.") from None


@dataclass(frozen=True, slots=True)
class _ComparedGeneration:
    """A generation with its encoder."""

    index: BoundIndex[Any]
    encoder: Encoder
    limit: int

    @classmethod
    def of(cls, generation: Generation, *, limit: int) -> "_ComparedGeneration":
        """One that is ready to be asked; loads its encoder."""
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
        """Keys of the nearest rows, best first."""
        vector = self.encoder.encode_queries([text])[0]
        found = statements.knn(self.index, vector, limit=self.limit)
        key = keys.as_text(self.index.tables.source_key)
        return list(session.scalars(found.with_only_columns(key, maintain_column_froms=True)))


def _ndcg(queries: Sequence[str], found: Sequence[Sequence[str]], judged: Judged, *, limit: int) -> float:
    """The mean nDCG of the queries that are judged."""
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
