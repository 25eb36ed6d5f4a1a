"""`TrainingExamples`: what an encoder is trained on and measured with, as texts in memory. Reads the index once."""

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic.evaluation import existing_rows
from pg_semantic.index import distances, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker
from pg_semantic.training import passages
from pg_semantic.training.mining import statements
from pg_semantic.training.mining.mined import MinedPair, ScoredChunk
from pg_semantic.training.mining.statements import AskedQuery, Searched
from pg_semantic.training.pairs import Pair
from pg_semantic.training.passages import Passage

Given: TypeAlias = Sequence[MinedPair | Pair]


@dataclass(frozen=True, slots=True)
class Example:
    """A query with the passage that answers it.

    Attributes:
        query: The text of the query.
        positive: The passage.
        negatives: Passages that don't answer it, hardest first.
        score: How well the passage answers, 0 to 1; None if that isn't known.
    """

    query: str
    positive: Passage
    negatives: tuple[Passage, ...] = ()
    score: float | None = None

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The positive and the negatives."""
        return (self.positive, *self.negatives)


@dataclass(frozen=True, slots=True)
class TrainingExamples:
    """What was read.

    Attributes:
        all: The examples, each query and row once.
        texts: The text of each passage, as it was encoded.
        random: Random passages to measure with.
        spare: Random passages to train with.
        gone: How many pairs were left out because their row has no vectors.
        is_sample: Whether the index has more passages than ``random``.
    """

    all: tuple[Example, ...]
    texts: Mapping[Passage, str]
    random: tuple[Passage, ...]
    spare: tuple[Passage, ...]
    gone: int
    is_sample: bool

    def relevant(self) -> dict[str, list[str]]:
        """Returns the keys of the rows that are relevant to each query."""
        found: dict[str, list[str]] = {}
        for one in self.all:
            found.setdefault(one.query, []).append(one.positive[0])
        return found

    def without_quotes(self) -> "TrainingExamples":
        """Returns the same with all queries cut out of the passages that answer them."""
        texts = dict(self.texts)
        for one in self.all:
            texts[one.positive] = texts[one.positive].replace(one.query, " ")
        kept = [one for one in self.all if texts[one.positive].strip()]
        return dataclasses.replace(self, all=tuple(kept), texts=texts)

    def padded(self, examples: Iterable[Example], *, count: int, seed: int) -> list[Example]:
        """Returns examples with exactly this many negatives, random passages where there are too few.

        Args:
            examples: The examples.
            count: How many negatives. There are fewer if the index has not enough passages.
            seed: Chooses the random passages.
        """
        choose, relevant = random.Random(seed), self.relevant()  # noqa: S311 - not a secret
        source = self.spare or self.random
        found = []
        for one in examples:
            rows = relevant[one.query]
            drawn = choose.sample(source, min(len(source), count + len(rows) + len(one.negatives)))
            others = [passage for passage in drawn if passage[0] not in rows and passage not in one.negatives]
            found.append(dataclasses.replace(one, negatives=(*one.negatives, *others)[:count]))
        least = min((len(one.negatives) for one in found), default=0)
        return [dataclasses.replace(one, negatives=one.negatives[:least]) for one in found]


def read(
    session: orm.Session,
    index: BoundIndex[Any],
    given: Given,
    *,
    vectors: Mapping[str, NDArray[np.float32]],
    random_passages: int,
    seed: int,
) -> TrainingExamples:
    """Reads the texts of pairs, and random passages.

    Takes one statement per query of a pair without a known passage, and one that computes a hash for each chunk of the
    index.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        given: Pairs, mined or not.
        vectors: The vectors of the queries whose passages aren't known.
        random_passages: How many random passages to measure with. As many as there are pairs are read to train with.
        seed: Chooses the random passages.
    """
    known = _with_passages(session, index, given, vectors=vectors)
    found = passages.read(session, index, {one for example in known for one in example.passages})
    drawn = _random(session, index, count=random_passages + len(known) + 1, seed=seed)
    kept, order = _complete(known, found), list(drawn)
    return TrainingExamples(
        all=tuple(kept),
        texts=found | drawn,
        random=tuple(order[:random_passages]),
        spare=tuple(order[random_passages:]),
        gone=len({(one.query, _key(one)) for one in given}) - len(kept),
        is_sample=len(drawn) > random_passages,
    )


def _complete(known: Sequence[Example], found: Mapping[Passage, str]) -> list[Example]:
    """Returns the examples whose passage was found, with those negatives that were found and answer no such query."""
    relevant: dict[str, set[str]] = {}
    for example in known:
        relevant.setdefault(example.query, set()).add(example.positive[0])
    return [
        dataclasses.replace(
            one, negatives=tuple(n for n in one.negatives if n in found and n[0] not in relevant[one.query])
        )
        for one in known
        if one.positive in found
    ]


def _with_passages(
    session: orm.Session, index: BoundIndex[Any], given: Given, *, vectors: Mapping[str, NDArray[np.float32]]
) -> list[Example]:
    """Returns an example for each query and row. Of several for the same, the first one counts."""
    plain = [one for one in given if isinstance(one, Pair)]
    canonical = existing_rows.canonical(session, index, {pair.key for pair in plain})
    answers: dict[str, set[str]] = {}
    for pair in plain:
        if pair.key in canonical:
            answers.setdefault(pair.query, set()).add(canonical[pair.key])
    nearest = {
        (query, one.key): one
        for query, rows in answers.items()
        for one in _nearest(session, index, vectors[query], rows=sorted(rows))
    }
    found: dict[tuple[str, str], Example] = {}
    for one in given:
        if isinstance(one, MinedPair):
            negatives = tuple((chunk.key, chunk.ordinal) for chunk in one.negatives)
            made = Example(one.query, (one.positive.key, one.positive.ordinal), negatives)
        elif chunk := nearest.get((one.query, canonical.get(one.key, one.key))):
            made = Example(one.query, (chunk.key, chunk.ordinal), score=one.score)
        else:
            continue
        found.setdefault((made.query, made.positive[0]), made)
    return list(found.values())


def _nearest(
    session: orm.Session, index: BoundIndex[Any], vector: NDArray[np.float32], *, rows: Sequence[str]
) -> list[ScoredChunk]:
    """Returns the chunk of each row that is nearest to a query."""
    searched = Searched(index, (), "dense", 1, None, contents=False)
    asked = AskedQuery(sa.literal("", sa.Text), distances.query_vector(index.spec, vector))
    connection = generation_tracker.connect(session, index)
    found = connection.execute(statements.positives(searched, asked, rows))
    return [ScoredChunk(row.key, row.ordinal, row.score) for row in found]


def _random(session: orm.Session, index: BoundIndex[Any], *, count: int, seed: int) -> dict[Passage, str]:
    """Returns the texts of random passages: the first ones in the order of a hash. Reads all chunks' keys."""
    tables = index.tables
    key, chunks = keys.as_text(tables.chunk_key), tables.chunks.c
    named = sa.func.concat(key, "/", chunks.ordinal)
    order = sa.func.hashtextextended(named, sa.cast(seed, sa.BigInteger))
    statement = (
        sa.select(key, chunks.ordinal, chunks.content).select_from(tables.chunks).order_by(order, named).limit(count)
    )
    rows = generation_tracker.connect(session, index).execute(statement)
    return {(row_key, ordinal): text for row_key, ordinal, text in rows}


def _key(one: MinedPair | Pair) -> str:
    return one.key if isinstance(one, Pair) else one.positive.key
