"""Mines hard negatives from a semantic index: `mine`.

Each query is searched once, and all scores come from stored vectors, so no document is encoded.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, evaluation
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import existing_rows
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.index import distances
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs, validation
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode
from pg_semantic.training import tenants
from pg_semantic.training.mining import choose_negatives, mined, statements
from pg_semantic.training.mining.choose_negatives import Candidate, Group, Mining
from pg_semantic.training.mining.mined import Mined, MinedPair, MiningReport, ScoredChunk, ScoreQuantiles
from pg_semantic.training.mining.statements import AskedQuery, Searched
from pg_semantic.training.pairs import Pair

T = TypeVar("T")

_BATCH = 64  # queries that are encoded at once


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
        session: Its privileges and row-level security apply. If it is in no transaction, each query is searched in one
            of its own, and none is open while queries are encoded or passages reranked.
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
        pauses = own_transaction.can_pause(session, {"mapper": sa.inspect(index.entity, raiseerr=True).mapper})
        live = _live(session, index, encoder)
        tenants.require_separate(generation_tracker.connect(session, index), index, filters)
        given = _resolved(session, index, pairs)
        searched = Searched(live, filters, mode, options.last_rank(1), options.group, contents=options.reranks)
        return _Run(session, searched, options, given=given, exact=exact, pauses=pauses).mine_all(encoder, on_query)


def _checked(index: BoundIndex[Any], *, where: Where, mode: Mode, group: Group) -> Where:
    if mode not in get_args(Mode):
        raise errors.QueryError(f"mode={mode!r} is unknown: use one of {', '.join(get_args(Mode))}.")
    filters = legs.conditions(where)
    legs.require_own(index, [*filters, *([] if group is None else [group.is_not(None)])])
    return filters


@dataclass(frozen=True, slots=True)
class _Given:
    """The existing rows that answer each query, by their keys; other keys that do; and how many pairs there were.

    Keys that are given for a query in another spelling count as others too.
    """

    keys: Mapping[str, Sequence[str]]
    others: Mapping[str, Set[str]]
    pairs: int


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
    spellings: dict[bytes, set[str]] = {}
    for query, found in answers.items():
        spellings.setdefault(query_hash(query), set()).update(canonical.get(key, key) for key in found)
    others = {query: spellings[query_hash(query)] - set(known) for query, known in keys.items()}
    return _Given(keys, others, sum(map(len, answers.values())))


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
    zero: int = 0
    mined: int = 0
    short: int = 0
    candidates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    negatives: list[float] = field(default_factory=list)


class _Run:
    """Mines query by query, and collects the pairs and what the report counts."""

    def __init__(
        self, session: orm.Session, searched: Searched, options: Mining, *, given: _Given, exact: bool, pauses: bool
    ) -> None:
        self._session, self._searched, self._options, self._exact = session, searched, options, exact
        self._given, self._pauses = given, pauses
        self._choose = functools.partial(choose_negatives.choose, mining=options)
        self._pairs: list[MinedPair] = []
        self._counts = _Counts()

    def mine_all(self, encoder: Encoder | BatchingEncoder, on_query: Callable[[], object]) -> Mined:
        """Mines the negatives of every query that has a positive left. Returns the pairs with them, and the report."""
        self._pause()
        for query, vector in _encoded(self._given.keys, encoder):
            if not vector.any():
                self._counts.zero += 1
            elif self._given.keys[query]:
                self._mine(query, vector, self._given.keys[query])
                self._pause()
            on_query()
        return self._result()

    def _pause(self) -> None:
        if self._pauses:
            self._session.commit()

    @property
    def _connection(self) -> sa.Connection:
        return generation_tracker.connect(self._session, self._searched.index)

    def _mine(self, query: str, vector: NDArray[np.float32], keys: Sequence[str]) -> None:
        counts, text = self._counts, sa.literal(database.searchable(query, self._connection), sa.Text)
        asked = AskedQuery(text, distances.query_vector(self._searched.index.spec, vector))
        rows = self._connection.execute(statements.positives(self._searched, asked, keys)).all()
        positives = {row.key: _candidate(row) for row in rows}
        counts.quoted += sum(row.quoted for row in rows)
        if not positives:
            return
        found = self._candidates(asked, list(positives), {*self._given.others[query], *keys} - positives.keys())
        counts.candidates += len(found)
        answers, found = self._rescored(query, list(positives.values()), found)
        negatives = tuple(self._choose(query, answers, found, dropped=counts.dropped))
        counts.mined += bool(negatives)
        counts.short += len(negatives) < self._options.negatives
        counts.negatives += [negative.score for negative in negatives]
        self._pairs += [MinedPair(query, answer.passage, negatives) for answer in answers]

    def _candidates(self, query: AskedQuery, answers: Sequence[str], others: Set[str]) -> list[Candidate]:
        """Returns what the search finds, best first, without the positives and other answers."""
        known, connection = len(answers) + len(others), self._connection
        searched = dataclasses.replace(self._searched, depth=self._options.last_rank(known) + known)
        statement = functools.partial(statements.candidates, searched, query, answers)
        rows = connection.execute(statement(exact=self._exact)).all()
        scanned = rows[0].scanned if rows else 0
        if searched.mode != "lexical" and not self._exact and scanned < searched.leg_depth:
            rows = connection.execute(statement(exact=True)).all()  # the index scan may have ended too early
        left = {row.key for row in rows}.difference(answers)
        if left and others:  # an answer that had no vectors, or no row, may have them by now
            left -= {*others, *existing_rows.canonical(self._session, searched.index, others).values()}
        return [_candidate(row, row.nearness) for row in rows if row.key in left]

    def _rescored(
        self, query: str, positives: list[Candidate], found: list[Candidate]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Returns both with the reranker's scores, if these decide."""
        reranker = self._options.rerank
        if reranker is None or not self._options.reranks:
            return positives, found
        self._pause()  # reranking takes long
        every = [*positives, *found]
        scores = reranker.score(query, [one.content for one in every])
        assert scores is not None  # noqa: S101 - there is no time limit
        scored = [_with_score(one, float(score)) for one, score in zip(every, scores, strict=True)]
        return scored[: len(positives)], scored[len(positives) :]

    def _result(self) -> Mined:
        counts, pairs = self._counts, tuple(self._pairs)
        report = MiningReport(
            index=self._searched.index.name,
            queries=len(self._given.keys),
            pairs=self._given.pairs,
            gone=self._given.pairs - len(pairs),
            quoted=counts.quoted,
            zero=counts.zero,
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
