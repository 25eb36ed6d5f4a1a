"""Mines hard negatives from a semantic index: `mine`.

Each query is searched once, and all scores come from stored vectors, so no document is encoded.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, evaluation
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import existing_rows
from pg_semantic.index import chunk_tables, distances
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs, validation
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode
from pg_semantic.training.mining import choose_negatives, mined, statements
from pg_semantic.training.mining.choose_negatives import Candidate, Group, Mining
from pg_semantic.training.mining.mined import Mined, MinedPair, MiningReport, ScoredChunk, ScoreQuantiles
from pg_semantic.training.mining.statements import AskedQuery, Searched
from pg_semantic.training.pairs import Pair

T = TypeVar("T")

_BATCH = 64  # queries that are encoded at once

_PG_CLASS = sa.table("pg_class", sa.column("oid"), sa.column("relrowsecurity", sa.Boolean), schema="pg_catalog")


def mine(  # noqa: PLR0913 - search options
    session: orm.Session,
    index: BoundIndex[Any],
    pairs: Sequence[Pair],
    *,
    encoder: Encoder | BatchingEncoder,
    where: Where = (),
    mode: Mode = "dense",
    exact: bool = False,
    options: Mining = Mining(),  # noqa: B008 - frozen
    on_query: Callable[[], object] = lambda: None,
) -> Mined:
    """Finds rows that look like answers to the pairs' queries but aren't: hard negatives, for training.

    Costs one search per query, and encodes only queries. A row's passage is its chunk that is nearest to the query.
    Filters and row-level security apply to positives and negatives alike.

    Args:
        encoder: Encodes the queries, such as ``searcher.encoder``: the one that encoded the live generation.
        where: Conditions, as in a search. Required if the table has row-level security that the role bypasses.
        mode: How to rank candidates, as in a search. Margins and bounds compare cosines or reranker scores regardless.
        exact: Computes every distance instead of scanning the vector index.
        options: How many negatives, and which.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There are no pairs, or a query is held out, or it or another argument is not valid.
        errors.EncoderMismatch: The stored vectors come from another encoder.
        errors.IndexNotFound: The index has not been created.
    """
    filters = _checked(index, where=where, mode=mode, group=options.group)
    with database.translated():
        live, connection = _live(session, index, encoder), generation_tracker.connect(session, index)
        _require_separate_tenants(connection, index, filters)
        given = _resolved(session, index, pairs)
        depth = options.last_rank(given.most_positives) + given.most_positives
        searched = Searched(live, filters, mode, depth, options.group, contents=options.reranks)
        run = _Run(connection, searched, options, given=given, exact=exact)
        run.mine_all(encoder, on_query)
    return run.result()


def _checked(index: BoundIndex[Any], *, where: Where, mode: Mode, group: Group) -> Where:
    if mode not in get_args(Mode):
        raise errors.QueryError(f"mode={mode!r} is unknown: use one of {', '.join(get_args(Mode))}.")
    filters = legs.conditions(where)
    legs.require_own(index, [*filters, *([] if group is None else [group.is_not(None)])])
    return filters


@dataclass(frozen=True, slots=True)
class _Given:
    """The existing rows that answer each query, by their keys, and how many pairs there were."""

    keys: Mapping[str, Sequence[str]]
    pairs: int

    @property
    def most_positives(self) -> int:
        return max(map(len, self.keys.values()))


def _resolved(session: orm.Session, index: BoundIndex[Any], pairs: Sequence[Pair]) -> _Given:
    """Returns the pairs by query. Raises `errors.QueryError` if there is none, or a query is held out or not valid."""
    pairs = [pair for pair in pairs if pair.score != 0]
    if not pairs:
        raise errors.QueryError("There are no pairs to mine negatives for: pass at least one query with its answer.")
    answers: dict[str, dict[str, None]] = {}
    for pair in pairs:
        answers.setdefault(validation.check_query_text(pair.query), {})[pair.key] = None
    evaluation.require_not_held_out(session, index, answers)
    canonical = existing_rows.canonical(session, index, {pair.key for pair in pairs})
    keys = {
        query: list(dict.fromkeys(canonical[key] for key in given if key in canonical))
        for query, given in answers.items()
    }
    return _Given(keys, sum(map(len, answers.values())))


def _live(session: orm.Session, index: BoundIndex[T], encoder: Encoder | BatchingEncoder) -> BoundIndex[T]:
    """Returns the index bound to its live generation, which must have vectors from this encoder."""
    live, _ = generation_tracker.read_live(session, index)
    spec = live.spec.encoder
    if encoder.dimensions != spec.dimensions or live.fingerprint not in {None, encoder.fingerprint}:
        raise errors.EncoderMismatch(
            f"Semantic index {live.name!r} has vectors from {spec}, but you passed {encoder.reference!r} "
            f"({encoder.dimensions} dimensions), or one of the same name with other weights or prompts. Mine with the "
            "encoder of the live generation."
        )
    return Target(live, live.tables, None).bound(index)


def _require_separate_tenants(connection: sa.Connection, index: BoundIndex[Any], where: Where) -> None:
    """Refuses a table with row-level security if the role bypasses it and there is no filter in its place."""
    if where:
        return
    oid = chunk_tables.RegClass(index.tables.source)
    active = sa.func.row_security_active(_PG_CLASS.c.oid, type_=sa.Boolean)
    bypassed = sa.select(_PG_CLASS.c.relrowsecurity & ~active).where(_PG_CLASS.c.oid == oid)
    if connection.scalar(bypassed):
        raise errors.QueryError(
            f"Table {index.spec.table!r} has row-level security, which the current role bypasses, so rows of one "
            "tenant could become negatives of another. Connect as a role that the policies apply to, or pass "
            "where=[...]."
        )


def _encoded(queries: Iterable[str], encoder: Encoder | BatchingEncoder) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if isinstance(encoder, BatchingEncoder):
        yield from ((query, encoder.encode(query)) for query in queries)
        return
    left = list(queries)
    for start in range(0, len(left), _BATCH):
        batch = left[start : start + _BATCH]
        yield from zip(batch, encoder.encode_queries(batch), strict=True)


@dataclass(slots=True, kw_only=True)
class _Counts:
    quoted: int = 0
    mined: int = 0
    short: int = 0
    candidates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    negatives: list[float] = field(default_factory=list)


class _Run:
    """Mines query by query, and collects the pairs and what the report counts."""

    def __init__(
        self, connection: sa.Connection, searched: Searched, options: Mining, *, given: _Given, exact: bool
    ) -> None:
        self._connection, self._searched, self._options, self._exact = connection, searched, options, exact
        self._given = given
        self._choose = functools.partial(choose_negatives.choose, mining=options, most_positives=given.most_positives)
        self._pairs: list[MinedPair] = []
        self._counts = _Counts()

    def mine_all(self, encoder: Encoder | BatchingEncoder, on_query: Callable[[], object]) -> None:
        """Mines the negatives of every query that has a positive left."""
        for query, vector in _encoded(self._given.keys, encoder):
            if self._given.keys[query]:
                self._mine(query, vector, self._given.keys[query])
            on_query()

    def _mine(self, query: str, vector: NDArray[np.float32], keys: Sequence[str]) -> None:
        counts, text = self._counts, sa.literal(database.searchable(query, self._connection), sa.Text)
        asked = AskedQuery(text, distances.query_vector(self._searched.index.spec, vector))
        rows = self._connection.execute(statements.positives(self._searched, asked, keys)).all()
        positives = {row.key: _candidate(row) for row in rows}
        counts.quoted += sum(row.quoted for row in rows)
        if not positives:
            return
        found = self._candidates(asked, list(positives))
        counts.candidates += len(found)
        answers, found = self._rescored(query, list(positives.values()), found)
        negatives = tuple(self._choose(query, answers, found, dropped=counts.dropped))
        counts.mined += bool(negatives)
        counts.short += len(negatives) < self._options.negatives
        counts.negatives += [negative.score for negative in negatives]
        self._pairs += [MinedPair(query, answer.passage, negatives) for answer in answers]

    def _candidates(self, query: AskedQuery, answers: Sequence[str]) -> list[Candidate]:
        """Returns what the search finds, best first, without the positives."""
        statement = functools.partial(statements.candidates, self._searched, query, answers)
        rows = self._connection.execute(statement(exact=self._exact)).all()
        scanned = rows[0].scanned if rows else 0
        if self._searched.mode != "lexical" and not self._exact and scanned < self._searched.leg_depth:
            rows = self._connection.execute(statement(exact=True)).all()  # the index scan may have ended too early
        return [_candidate(row, row.nearness) for row in rows if row.key not in answers]

    def _rescored(
        self, query: str, positives: list[Candidate], found: list[Candidate]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Returns both with the reranker's scores, if these decide."""
        reranker = self._options.rerank
        if reranker is None or not self._options.reranks:
            return positives, found
        every = [*positives, *found]
        scores = reranker.score(query, [one.content for one in every])
        assert scores is not None  # noqa: S101 - there is no time limit
        scored = [_with_score(one, float(score)) for one, score in zip(every, scores, strict=True)]
        return scored[: len(positives)], scored[len(positives) :]

    def result(self) -> Mined:
        """Returns the pairs with their negatives, and the report."""
        counts, pairs = self._counts, tuple(self._pairs)
        report = MiningReport(
            index=self._searched.index.name,
            queries=len(self._given.keys),
            pairs=self._given.pairs,
            gone=self._given.pairs - len(pairs),
            quoted=counts.quoted,
            mined=counts.mined,
            short=counts.short,
            negatives=len(counts.negatives),
            candidates=counts.candidates,
            dropped={name: counts.dropped[name] for name in choose_negatives.FILTERS if name in counts.dropped},
            reranked=self._options.reranks,
            positive_scores=ScoreQuantiles.of([pair.positive.score for pair in pairs]),
            negative_scores=ScoreQuantiles.of(counts.negatives),
            examples=mined.examples(pairs, seed=self._options.seed),
        )
        return Mined(pairs, report)


def _candidate(row: sa.Row[Any], nearness: float | None = None) -> Candidate:
    return Candidate(ScoredChunk(row.key, row.ordinal, row.score), nearness, row.group, row.content)


def _with_score(one: Candidate, score: float) -> Candidate:
    return dataclasses.replace(one, passage=dataclasses.replace(one.passage, score=score))
