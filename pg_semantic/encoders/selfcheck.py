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
    return _numbers(transformer.encode_document, TEXTS), _numbers(transformer.encode_query, QUERIES)


def least_cosine(encoder: Encoder, expected: tuple[Vectors, Vectors]) -> float:
    """The least cosine between an encoder's vectors and those expected; -1 where a vector has no direction."""
    documents, queries = expected
    return min(
        _least(encoder.encode_documents(TEXTS), documents),
        _least(encoder.encode_queries(QUERIES), queries),
    )


def _numbers(encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
    return np.asarray(encode(list(texts), show_progress_bar=False), np.float32)


def _least(found: Vectors, expected: Vectors) -> float:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (found * expected).sum(axis=1) / lengths
    return float(np.nan_to_num(cosines, nan=-1.0).min())
