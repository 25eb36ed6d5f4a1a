"""Scores by which a teacher, a reranker or another encoder, tells an encoder how well passages answer: `scores`."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders import Encoder
from pg_semantic.rerankers import Reranker
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.passages import Passage

Teacher: TypeAlias = Reranker | Encoder
"""What an encoder learns from, such as the result of `rerankers.load` or of `encoders.load`."""

SCALE = 20.0
"""What cosines are multiplied by before the softmax, as in MultipleNegativesRankingLoss."""

_CERTAIN = 1e-6


def scores(teacher: Teacher, examples: Sequence[Example], texts: Mapping[Passage, str]) -> list[list[float]]:
    """Returns the teacher's scores of each example's positive and negatives, as logits.

    Args:
        teacher: A reranker scores each pair; its probabilities become logits. An encoder encodes each text once, and
            cosines are multiplied by `SCALE`.
        examples: The examples.
        texts: The texts of all passages.
    """
    if hasattr(teacher, "score_type"):
        return _by_reranker(cast("Reranker", teacher), examples, texts)
    return _by_encoder(teacher, examples, texts)


def _by_reranker(teacher: Reranker, examples: Sequence[Example], texts: Mapping[Passage, str]) -> list[list[float]]:
    found = []
    for one in examples:
        scored = np.asarray(teacher.score(one.query, [texts[passage] for passage in one.passages]), np.float64)
        found.append(_logits(scored) if teacher.score_type == "probability" else scored)
    return [scored.tolist() for scored in found]


def _by_encoder(teacher: Encoder, examples: Sequence[Example], texts: Mapping[Passage, str]) -> list[list[float]]:
    queries = list(dict.fromkeys(one.query for one in examples))
    passages = list(dict.fromkeys(passage for one in examples for passage in one.passages))
    by_query = dict(zip(queries, _unit(teacher.encode_queries(queries)), strict=True))
    encoded = teacher.encode_documents([texts[passage] for passage in passages])
    by_passage = dict(zip(passages, _unit(encoded), strict=True))
    return [[SCALE * float(by_query[one.query] @ by_passage[passage]) for passage in one.passages] for one in examples]


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = probabilities.clip(_CERTAIN, 1 - _CERTAIN)
    logits: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return logits


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
