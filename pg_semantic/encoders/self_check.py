"""The self-check of a back end: for these texts, it must compute the vectors of the reference.

The reference is sentence-transformers in 32-bit arithmetic.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic.encoders.base import Encoder, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST_COSINE = 0.999
"""Lowest accepted cosine to the 32-bit vectors. Above it, a back end ranks as the reference does.

On SciFact, the nDCG@10 of all-MiniLM-L6-v2 in bfloat16 (cosine of at least .9999) differs by less than .001.
"""

LEAST_COSINE_INT8 = 0.9
"""Lowest accepted cosine to the 32-bit vectors for int8, checked once, when an encoder is quantized.

An int8 encoder has vectors of its own, so this only detects a broken one. For all-MiniLM-L6-v2, the lowest cosine on
these texts is about .96, in scripts that its calibration lacked; on texts like those of the calibration it is .99. The
vectors of another encoder, or of damaged files, are far below .9. `reference_vectors` checks that an int8 encoder
computes the same vectors on another machine.
"""

_STORY = (
    "The ferry had left at six, and with it the last of the daylight. Marta counted the crates on the pier, wrote "
    "the number in her book, and began to carry them in before the rain. "
)

# A range of lengths, scripts and formats: a single word, a table, code, no letters, longer than most encoders can read.
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
    """Encodes the texts and queries of the self-check with sentence-transformers itself.

    Returns:
        The vectors of `TEXTS` and those of `QUERIES`.
    """
    return documents(transformer, TEXTS), _numbers(transformer.encode_query, QUERIES)


def least_cosine(encoder: Encoder, expected: tuple[Vectors, Vectors]) -> float:
    """Returns the lowest cosine between an encoder's vectors and the expected ones.

    Args:
        encoder: The encoder to check.
        expected: What `reference` returned.

    Returns:
        The cosine, or -1 if a vector is zero or not finite.
    """
    of_documents, of_queries = expected
    return min(
        float(cosines(encoder.encode_documents(TEXTS), of_documents).min()),
        float(cosines(encoder.encode_queries(QUERIES), of_queries).min()),
    )


def documents(transformer: "SentenceTransformer", texts: Sequence[str]) -> Vectors:
    """Encodes documents with sentence-transformers itself."""
    return _numbers(transformer.encode_document, texts)


def cosines(found: Vectors, expected: Vectors) -> Vectors:
    """Returns the cosine of each vector to the expected one, or -1 where either is zero or not finite."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found_cosines: Vectors = (found * expected).sum(axis=1) / lengths
    return np.nan_to_num(found_cosines, nan=-1.0)


def _numbers(encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
    return np.asarray(encode(list(texts), show_progress_bar=False), np.float32)
