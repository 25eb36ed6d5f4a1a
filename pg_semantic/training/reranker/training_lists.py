"""`TrainingList`: a query with passages that answer it and passages that don't, as texts in memory."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import orm

from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs
from pg_semantic.search.legs import Where
from pg_semantic.training import drawn_passages, passages
from pg_semantic.training.mining.mined import MinedPair, ScoredChunk
from pg_semantic.training.passages import Passage

_MOST_RANDOM = 50_000  # random passages; more queries than that share some
_SPARE = 20  # random passages in addition to one per query, for queries that must not take some of them


@dataclass(frozen=True, slots=True)
class TrainingList:
    """A query with its passages.

    Attributes:
        query: The text of the query.
        positives: Passages that answer it; at least one.
        negatives: Passages that don't: the mined ones, hardest first, and then a random one.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]

    @property
    def passages(self) -> tuple[str, ...]:
        """The positives, then the negatives."""
        return (*self.positives, *self.negatives)

    @property
    def labels(self) -> list[int]:
        """1 for each positive, then 0 for each negative."""
        return [1] * len(self.positives) + [0] * len(self.negatives)


def read(  # noqa: PLR0913 - which passages, and which not
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Sequence[MinedPair],
    *,
    relevant: Mapping[str, Set[str]],
    where: Where,
    seed: int,
    without: Set[str] = frozenset(),
) -> list[TrainingList]:
    """Reads the passages of mined pairs, and a random negative for each query.

    Without a random one, a reranker only learns to tell apart passages that look like answers, and then ranks others
    above them. Passages that were split differently since mining are left out, and so are queries without a positive
    passage or without negatives.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        mined: The pairs.
        relevant: The keys of all rows that answer each query to use. None of them becomes a negative.
        where: Conditions on the rows of all passages. Those of other rows are left out.
        seed: Chooses the random negatives.
        without: The keys of rows that don't become random negatives, such as those that answer held-out queries.
    """
    wanted = {(one.key, one.ordinal) for pair in mined for one in (pair.positive, *pair.negatives)}
    texts = passages.read(session, index, wanted, where=where)
    count = min(_MOST_RANDOM, len(relevant) + len(without)) + _SPARE
    drawn = drawn_passages.one_of_each_row(index, count=count, where=legs.conditions(where), seed=seed)
    rows = generation_tracker.connect(session, index).execute(drawn)
    others = [(key, text) for key, text in rows if key not in without]
    by_query = {query: pairs for query, pairs in _by_query(mined).items() if query in relevant}
    found = []
    for number, (query, pairs) in enumerate(by_query.items()):
        made = _list(query, pairs, texts, answers=relevant[query])
        found.append(_with_random(made, passages.from_place(others, number), relevant[query]))
    return [one for one in found if one.positives and one.negatives]


def _by_query(mined: Sequence[MinedPair]) -> dict[str, list[MinedPair]]:
    found: dict[str, list[MinedPair]] = {}
    for pair in mined:
        found.setdefault(pair.query, []).append(pair)
    return found


def _list(query: str, pairs: Sequence[MinedPair], texts: Mapping[Passage, str], *, answers: Set[str]) -> TrainingList:
    """Returns the mined passages of a query, each text once. A negative with the text of a positive is left out."""

    def those(chunks: Iterator[ScoredChunk]) -> dict[str, None]:
        return {texts[passage]: None for one in chunks if (passage := (one.key, one.ordinal)) in texts}

    positives = those(pair.positive for pair in pairs)
    negatives = those(one for pair in pairs for one in pair.negatives if one.key not in answers)
    return TrainingList(query, tuple(positives), tuple(text for text in negatives if text not in positives))


def _with_random(one: TrainingList, others: Iterable[tuple[str, str]], answers: Set[str]) -> TrainingList:
    """Adds the first of these passages that is neither an answer nor in the list already, if there is one."""
    known = {*one.positives, *one.negatives}
    for key, text in others:
        if key not in answers and text not in known:
            return dataclasses.replace(one, negatives=(*one.negatives, text))
    return one
