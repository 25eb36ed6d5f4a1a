"""How well an encoder in training ranks the answers of queries (`RankedAnswers`), or scores pairs (`ScoredPairs`).

Both encode what they need with the encoder as it is at that moment, since documents change too.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.base import Vectors
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.pairs import Pair
from pg_semantic.training.passages import Passage
from pg_semantic.training.query_side import training_queries
from pg_semantic.training.query_side.stored_vectors import StoredVectors
from pg_semantic.training.report import Measured

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 32


class HeldOutMeasure(Protocol):
    """Measures an encoder on queries or pairs that it isn't trained on."""

    @property
    def queries(self) -> Sequence[str]:
        """The query of each number that is measured."""
        ...

    @property
    def passages(self) -> int:
        """How many passages take part in the figures that are reported."""
        ...

    def __call__(self, encoder: "SentenceTransformer") -> tuple[Measured, Measured]:
        """Returns the measure to choose an epoch by, and the one to report, each of shape (queries,)."""
        ...


class RankedAnswers:
    """nDCG@10 of queries, whose answers are ranked among the answers of the others and random passages.

    The epoch is chosen with the mined negatives too, which are harder. They are left out of what is reported: the
    encoder before training found them, so they are hard for that one in particular, and any other encoder would look
    better than it is.

    Args:
        examples: The queries and their answers.
        texts: The texts of all passages.
        random: Random passages of the index.
    """

    def __init__(self, examples: Sequence[Example], texts: Mapping[Passage, str], *, random: Iterable[Passage]) -> None:
        self.queries = list(dict.fromkeys(one.query for one in examples))
        self._pairs = [Pair(one.query, one.positive[0]) for one in examples]
        neutral = {*random, *(one.positive for one in examples)}
        passages = sorted(neutral | {negative for one in examples for negative in one.negatives})
        self._keys = [key for key, _ in passages]
        self._texts = [texts[passage] for passage in passages]
        self._is_neutral = np.array([passage in neutral for passage in passages])

    @property
    def passages(self) -> int:
        """See `HeldOutMeasure.passages`."""
        return int(self._is_neutral.sum())

    def __call__(self, encoder: "SentenceTransformer") -> tuple[Measured, Measured]:
        """See `HeldOutMeasure.__call__`."""
        queries, documents = encoded(encoder, queries=self.queries, documents=self._texts)
        training_queries.require_finite(documents)
        every = np.ones(len(self._keys), bool)
        return self._ndcg(queries, documents, every), self._ndcg(queries, documents, self._is_neutral)

    def _ndcg(self, queries: Vectors, documents: Vectors, kept: NDArray[np.bool_]) -> Measured:
        keys = [key for key, is_kept in zip(self._keys, kept, strict=True) if is_kept]
        starts = [place for place, key in enumerate(keys) if not place or key != keys[place - 1]]
        stored = StoredVectors(tuple(keys[place] for place in starts), np.array(starts, np.int64), documents[kept])
        return training_queries.ndcg(training_queries.of(self._pairs, stored), range(len(queries)), queries)


class ScoredPairs:
    """Spearman's rank correlation of cosines and scores, as the share of each pair in it.

    The correlation is the mean of these shares: the products of the standardized ranks.

    Args:
        examples: The pairs, each with a score.
        texts: The texts of all passages.
    """

    def __init__(self, examples: Sequence[Example], texts: Mapping[Passage, str]) -> None:
        self.queries = [one.query for one in examples]
        self._texts = [texts[one.positive] for one in examples]
        self._scores = _standardized_ranks(np.array([one.score for one in examples], np.float64))

    @property
    def passages(self) -> int:
        """See `HeldOutMeasure.passages`."""
        return len(self._texts)

    def __call__(self, encoder: "SentenceTransformer") -> tuple[Measured, Measured]:
        """See `HeldOutMeasure.__call__`."""
        queries, documents = encoded(encoder, queries=self.queries, documents=self._texts)
        training_queries.require_finite(queries * documents)
        shares = _standardized_ranks((queries * documents).sum(axis=1)) * self._scores
        return shares, shares


def encoded(
    encoder: "SentenceTransformer", *, queries: Sequence[str], documents: Sequence[str]
) -> tuple[Vectors, Vectors]:
    """Returns the vectors of queries and of documents, of unit length, in 32-bit arithmetic. Each text costs once."""
    made = []
    for encode, texts in ((encoder.encode_query, queries), (encoder.encode_document, documents)):
        distinct = list(dict.fromkeys(texts))
        vectors = encode(distinct, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        place = {text: number for number, text in enumerate(distinct)}
        made.append(np.asarray(vectors, np.float32)[[place[text] for text in texts]])
    return made[0], made[1]


def _standardized_ranks(values: NDArray[np.floating]) -> Measured:
    """Returns the ranks, equal values with their mean rank, with mean 0 and variance 1; all 0 if all are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    spread = ranks.std()
    centred: Measured = ranks - ranks.mean()
    return centred / spread if spread else centred
