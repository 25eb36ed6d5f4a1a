"""Scores by which a teacher, a reranker or another encoder, tells an encoder how well passages answer: `scores`."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders import Encoder
from pg_semantic.encoders.base import Vectors
from pg_semantic.rerankers import Reranker
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.passages import Passage
from pg_semantic.training.time_limit import TimeLimit

Teacher: TypeAlias = Reranker | Encoder
"""What an encoder learns from, such as the result of `rerankers.load` or of `encoders.load`."""

SCALE = 20.0
"""What cosines are multiplied by before the softmax, as in MultipleNegativesRankingLoss."""

_CERTAIN = 1e-6
_LEAST_LENGTH = 1e-12
_AT_ONCE = 128  # texts
_WHAT = "scoring with the teacher"


def scores(
    teacher: Teacher, examples: Sequence[Example], texts: Mapping[Passage, str], *, limit: TimeLimit
) -> list[list[float]]:
    """Returns the teacher's scores of each example's positive and negatives, as logits.

    Args:
        teacher: A reranker scores each pair; its probabilities become logits. An encoder encodes each text once, and
            cosines are multiplied by `SCALE`.
        examples: The examples.
        texts: The texts of all passages.
        limit: How long everything may take.

    Raises:
        errors.ConfigurationError: The time limit is too short for all of them.
    """
    if hasattr(teacher, "score_type"):
        return _by_reranker(cast("Reranker", teacher), examples, texts, limit=limit)
    return _by_encoder(teacher, examples, texts, limit=limit)


def _by_reranker(
    teacher: Reranker, examples: Sequence[Example], texts: Mapping[Passage, str], *, limit: TimeLimit
) -> list[list[float]]:
    found = []
    for one in limit.parts(examples, what=_WHAT):
        scored = np.asarray(teacher.score(one.query, [texts[passage] for passage in one.passages]), np.float64)
        found.append(_logits(scored) if teacher.score_type == "probability" else scored)
    return [scored.tolist() for scored in found]


def _by_encoder(
    teacher: Encoder, examples: Sequence[Example], texts: Mapping[Passage, str], *, limit: TimeLimit
) -> list[list[float]]:
    queries = list(dict.fromkeys(one.query for one in examples))
    passages = list(dict.fromkeys(passage for one in examples for passage in one.passages))
    by_query = dict(zip(queries, _encoded(teacher.encode_queries, queries, limit), strict=True))
    documents = [texts[passage] for passage in passages]
    by_passage = dict(zip(passages, _encoded(teacher.encode_documents, documents, limit), strict=True))
    return [[SCALE * float(by_query[one.query] @ by_passage[passage]) for passage in one.passages] for one in examples]


def _encoded(encode: Callable[[list[str]], Vectors], texts: Sequence[str], limit: TimeLimit) -> Vectors:
    """Returns vectors of unit length."""
    parts = [list(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
    return _unit(np.concatenate([encode(part) for part in limit.parts(parts, what=_WHAT)]))


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = probabilities.clip(_CERTAIN, 1 - _CERTAIN)
    logits: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return logits


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(_LEAST_LENGTH)
    return unit
