"""`TrainingExamples`: what an encoder is trained on and measured with, as texts in memory. Reads the index once."""

import dataclasses
import itertools
import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic.evaluation import existing_rows
from pg_semantic.index import distances
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker
from pg_semantic.search.legs import Where
from pg_semantic.training import drawn_passages, passages
from pg_semantic.training.encoder import similar_passages
from pg_semantic.training.mining import statements
from pg_semantic.training.mining.mined import MinedPair, ScoredChunk
from pg_semantic.training.mining.statements import AskedQuery, Searched
from pg_semantic.training.pairs import Pair
from pg_semantic.training.passages import Passage
from pg_semantic.training.row_pairs import RowPair

_MOST_SPARE = 50_000  # random passages to train with

Given: TypeAlias = Sequence[MinedPair | Pair | RowPair]


@dataclass(frozen=True, slots=True)
class Example:
    """A query with the passage that answers it.

    Attributes:
        query: The text of the query.
        positive: The passage.
        negatives: Passages that don't answer it, hardest first.
        score: How well the passage answers, 0 to 1; None if that isn't known.
        row: The key of the row whose text is the query; None if the query is one that people ask.
    """

    query: str
    positive: Passage
    negatives: tuple[Passage, ...] = ()
    score: float | None = None
    row: str | None = None

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
        gone: How many pairs were left out, because their row has no vectors or a condition leaves it out, because two
            rows have the same text, because the vector of their query is all zeros, or because nothing is left of their
            passage without its quote.
        is_sample: Whether the index has more passages than ``random``.
    """

    all: tuple[Example, ...]
    texts: Mapping[Passage, str]
    random: tuple[Passage, ...]
    spare: tuple[Passage, ...]
    gone: int
    is_sample: bool

    @property
    def asked(self) -> list[Example]:
        """The examples whose query isn't the text of a row. Only these measure an encoder."""
        return [one for one in self.all if one.row is None]

    def relevant(self) -> dict[str, list[str]]:
        """Returns the keys of the rows that are relevant to each query, with the row whose text it is."""
        found: dict[str, list[str]] = {}
        for one in self.all:
            found.setdefault(one.query, []).extend([one.positive[0], *([] if one.row is None else [one.row])])
        return found

    def without_quotes(self) -> "TrainingExamples":
        """Returns the same with all queries cut out of the passages that answer them, where they are whole words."""
        texts = dict(self.texts)
        for one in self.asked:
            texts[one.positive] = _quote(one.query).sub(" ", texts[one.positive])
        kept = [one for one in self.all if texts[one.positive].strip()]
        return dataclasses.replace(self, all=tuple(kept), texts=texts, gone=self.gone + len(self.all) - len(kept))

    def padded(
        self, examples: Iterable[Example], *, count: int, seed: int, without: Collection[str] = ()
    ) -> list[Example]:
        """Returns examples with exactly this many negatives, random passages where there are too few.

        A random passage is no negative of a query that its row answers, or that a passage with the same text answers.
        Where there are still too few, the negatives of an example are repeated. An example without any is left out,
        unless that holds for all of them.

        Args:
            examples: The examples.
            count: How many negatives.
            seed: Chooses the random passages.
            without: The keys of rows that are not drawn.
        """
        choose, relevant = random.Random(seed), self.relevant()  # noqa: S311 - not a secret
        answers: dict[str, set[str]] = {}
        for one in self.all:
            answers.setdefault(one.query, set()).add(self.texts[one.positive])
        source = [passage for passage in self.spare or self.random if passage[0] not in without]
        found = []
        for one in examples:
            known = answers[one.query] | {self.texts[passage] for passage in one.negatives}
            place = choose.randrange(len(source)) if source else 0
            drawn = self._others(passages.from_place(source, place), rows=relevant[one.query], texts=known)
            negatives = [*one.negatives, *itertools.islice(drawn, max(0, count - len(one.negatives)))]
            repeated = itertools.islice(itertools.cycle(negatives), count)
            found.append(dataclasses.replace(one, negatives=tuple(repeated)))
        return [one for one in found if one.negatives] or found

    def _others(self, source: Iterable[Passage], *, rows: Collection[str], texts: Collection[str]) -> Iterator[Passage]:
        """Yields the passages of other rows with other texts, each text once."""
        known = set(texts)
        for passage in source:
            text = self.texts[passage]
            if passage[0] not in rows and text not in known:
                known.add(text)
                yield passage


def read(  # noqa: PLR0913 - what to read, and how many
    session: orm.Session,
    index: BoundIndex[Any],
    given: Given,
    *,
    vectors: Mapping[str, NDArray[np.float32]],
    random_passages: int,
    seed: int,
    where: Where = (),
    on_query: Callable[[], object] = lambda: None,
) -> TrainingExamples:
    """Reads the texts of pairs, and random passages.

    Takes one statement per query of a pair without a known passage, and one that computes a hash for each chunk of the
    index.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        given: Pairs, mined or not.
        vectors: The vectors of the queries whose passages aren't known.
        random_passages: How many random passages to measure with. Up to 50,000 others are read to train with.
        seed: Chooses the random passages.
        where: Conditions on the rows of all passages. Pairs of other rows are left out.
        on_query: Called before each query whose passages aren't known.
    """
    known = _with_passages(session, index, given, vectors=vectors, on_query=on_query)
    rows = similar_passages.read(session, index, [one for one in given if isinstance(one, RowPair)], seed=seed)
    wanted = {one for example in known for one in example.passages} | {one for both in rows.values() for one in both}
    found = passages.read(session, index, wanted, where=where)
    drawn = _drawn(session, index, count=random_passages + min(_MOST_SPARE, len(given)) + 1, where=where, seed=seed)
    kept, order = [*_complete(known, found), *_of_rows(rows, found)], list(drawn)
    return TrainingExamples(
        all=tuple(kept),
        texts=found | drawn,
        random=tuple(order[:random_passages]),
        spare=tuple(order[random_passages:]),
        gone=len(dict.fromkeys(map(_name, given))) - len(kept),
        is_sample=len(drawn) > random_passages,
    )


def _drawn(session: orm.Session, index: BoundIndex[Any], *, count: int, where: Where, seed: int) -> dict[Passage, str]:
    """Returns the texts of random passages."""
    statement = drawn_passages.of_any_chunks(index, count=count, where=where, seed=seed)
    rows = generation_tracker.connect(session, index).execute(statement)
    return {(key, ordinal): text for key, ordinal, text in rows}


def _complete(known: Sequence[Example], found: Mapping[Passage, str]) -> list[Example]:
    """Returns the examples whose passage was found, with those negatives that were found and answer no such query.

    A negative with the text of an answer is left out too.
    """
    relevant: dict[str, set[str]] = {}
    answers: dict[str, set[str]] = {}
    for example in known:
        relevant.setdefault(example.query, set()).add(example.positive[0])
        answers.setdefault(example.query, set()).add(found.get(example.positive, ""))

    def is_wrong(passage: Passage, query: str) -> bool:
        return passage in found and passage[0] not in relevant[query] and found[passage] not in answers[query]

    return [
        dataclasses.replace(one, negatives=tuple(n for n in one.negatives if is_wrong(n, one.query)))
        for one in known
        if one.positive in found
    ]


def _of_rows(rows: Mapping[RowPair, tuple[Passage, Passage]], found: Mapping[Passage, str]) -> Iterator[Example]:
    """Yields an example for each pair of rows whose texts were found, unless two rows have the same text."""
    for pair, (first, second) in rows.items():
        texts = found.get(first), found.get(second)
        if texts[0] is not None and texts[1] is not None and (pair.row == pair.key or texts[0] != texts[1]):
            yield Example(texts[0], second, row=first[0])


def _with_passages(
    session: orm.Session,
    index: BoundIndex[Any],
    given: Given,
    *,
    vectors: Mapping[str, NDArray[np.float32]],
    on_query: Callable[[], object],
) -> list[Example]:
    """Returns an example for each query and row. Of several for the same, the first one counts."""
    plain = [one for one in given if isinstance(one, Pair)]
    canonical = existing_rows.canonical(session, index, {pair.key for pair in plain})
    answers: dict[str, set[str]] = {}
    for pair in plain:
        if pair.key in canonical:
            answers.setdefault(pair.query, set()).add(canonical[pair.key])
    nearest: dict[tuple[str, str], ScoredChunk] = {}
    for query, rows in answers.items():
        on_query()
        if vectors[query].any():  # nothing is near to zeros
            found = _nearest(session, index, vectors[query], rows=sorted(rows))
            nearest |= {(query, one.key): one for one in found}
    made: dict[tuple[str, str], Example] = {}
    for one in given:
        if isinstance(one, MinedPair):
            negatives = tuple((chunk.key, chunk.ordinal) for chunk in one.negatives)
            example = Example(one.query, (one.positive.key, one.positive.ordinal), negatives)
        elif isinstance(one, Pair) and (chunk := nearest.get((one.query, canonical.get(one.key, one.key)))):
            example = Example(one.query, (chunk.key, chunk.ordinal), score=one.score)
        else:
            continue
        made.setdefault((example.query, example.positive[0]), example)
    return list(made.values())


def _nearest(
    session: orm.Session, index: BoundIndex[Any], vector: NDArray[np.float32], *, rows: Sequence[str]
) -> list[ScoredChunk]:
    """Returns the chunk of each row that is nearest to a query."""
    searched = Searched(index, (), "dense", 1, None, contents=False)
    asked = AskedQuery(sa.literal("", sa.Text), distances.query_vector(index.spec, vector))
    connection = generation_tracker.connect(session, index)
    found = connection.execute(statements.positives(searched, asked, rows))
    return [ScoredChunk(row.key, row.ordinal, row.score) for row in found]


def _quote(query: str) -> re.Pattern[str]:
    """Returns a pattern that finds a query in a text as whole words, in upper or lower case, on any number of lines."""
    words = r"\s+".join(map(re.escape, query.split()))
    end = "" if query.rstrip().endswith(("。", "！", "？")) else r"(?!\w)"  # no space follows these  # noqa: RUF001
    return re.compile(rf"(?<!\w){words}{end}", re.IGNORECASE)


def _name(one: MinedPair | Pair | RowPair) -> tuple[str, str, str]:
    """Returns what tells pairs apart."""
    if isinstance(one, RowPair):
        return "row", one.row, one.key
    return "query", one.query, one.key if isinstance(one, Pair) else one.positive.key
