"""The check that a back end has to pass: it makes of these texts what the reference makes of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic.encoders.base import Encoder, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST_COSINE = 0.999
"""Nearer than this to the vectors of 32-bit arithmetic, a back end ranks as they do.

On SciFact the nDCG@10 of all-MiniLM-L6-v2 in bfloat16 (cosine .9999 and more) differs by less than .001.
"""

LEAST_COSINE_INT8 = 0.9
"""An encoder in int8 makes vectors of its own; when it is quantised, this only tells it from one that is broken.

The least cosine on these texts is about .96 for all-MiniLM-L6-v2, in scripts that its calibration lacked; on texts like
those of the calibration it is .99. Vectors of another encoder, or of damaged files, are far below .9. Whether it makes
the same vectors on another machine is what `reference_vectors` compares.
"""

_STORY = (
    "The ferry had left at six, and with it the last of the daylight. Marta counted the crates on the pier, wrote "
    "the number in her book, and began to carry them in before the rain. "
)

# Of all lengths, scripts and kinds: one word, a table, code, no letters at all, longer than most encoders read.
TEXTS = (
    "semantic search",
    "A",
    "  spaces,\ttabs\nand\n\nlines  ",
    "How do I undo the last commit but keep my changes?",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)",
    "id | name | price\n1 | apple | 0.30\n2 | pear | 0.45",
    "Größere Städte haben häufig ältere Straßenbahnen.",
    "検索は、意味によって行を見つけます。",
    "Поиск по смыслу находит строки.",
    "1234567890 !?#%& 3.14159 🚲",
    _STORY,
    _STORY * 4,
    _STORY * 30,
)
QUERIES = ("undo a commit", "where did the ferry go in the evening?", "какой поиск находит по смыслу", "3.14")


def reference(transformer: "SentenceTransformer") -> tuple[Vectors, Vectors]:
    """Vectors of the texts and of the queries by sentence-transformers' own path."""
    return documents(transformer, TEXTS), _numbers(transformer.encode_query, QUERIES)


def least_cosine(encoder: Encoder, expected: tuple[Vectors, Vectors]) -> float:
    """The least cosine between an encoder's vectors and those expected; -1 where a vector has no direction."""
    of_documents, of_queries = expected
    return min(
        float(cosines(encoder.encode_documents(TEXTS), of_documents).min()),
        float(cosines(encoder.encode_queries(QUERIES), of_queries).min()),
    )


def documents(transformer: "SentenceTransformer", texts: Sequence[str]) -> Vectors:
    """Vectors of documents by sentence-transformers' own path."""
    return _numbers(transformer.encode_document, texts)


def cosines(found: Vectors, expected: Vectors) -> Vectors:
    """Cosine of each vector to the one expected; -1 where one has no direction."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found_cosines: Vectors = (found * expected).sum(axis=1) / lengths
    return np.nan_to_num(found_cosines, nan=-1.0)


def _numbers(encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
    return np.asarray(encode(list(texts), show_progress_bar=False), np.float32)
