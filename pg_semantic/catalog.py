"""Dimensions of encoders that many people use, so that a declaration need not load one."""

import re

_HASHED = re.compile(r"hashed:([1-9][0-9]{0,3})")

# From each encoder's own configuration (`1_Pooling/config.json`, or the last Dense module).
DIMENSIONS = {
    "sentence-transformers/all-MiniLM-L6-v2": 384,
    "sentence-transformers/all-MiniLM-L12-v2": 384,
    "sentence-transformers/all-mpnet-base-v2": 768,
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1": 384,
    "sentence-transformers/multi-qa-mpnet-base-cos-v1": 768,
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": 384,
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": 768,
    "BAAI/bge-small-en-v1.5": 384,
    "BAAI/bge-base-en-v1.5": 768,
    "BAAI/bge-large-en-v1.5": 1024,
    "BAAI/bge-m3": 1024,
    "intfloat/e5-small-v2": 384,
    "intfloat/e5-base-v2": 768,
    "intfloat/e5-large-v2": 1024,
    "intfloat/multilingual-e5-small": 384,
    "intfloat/multilingual-e5-base": 768,
    "intfloat/multilingual-e5-large": 1024,
    "thenlper/gte-small": 384,
    "thenlper/gte-base": 768,
    "thenlper/gte-large": 1024,
    "mixedbread-ai/mxbai-embed-large-v1": 1024,
    "Qwen/Qwen3-Embedding-0.6B": 1024,
    "google/embeddinggemma-300m": 768,
}


def dimensions(reference: str) -> int | None:
    """Dimensions of the vectors that the encoder makes, or None when the catalog does not know it.

    ``hashed:N`` names the deterministic encoder of N dimensions that needs no weights.
    """
    if match := _HASHED.fullmatch(reference):
        return int(match[1])
    return DIMENSIONS.get(reference)
