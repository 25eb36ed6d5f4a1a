"""The vectors that an int8 encoder made when it was quantised: kept in its folder, compared on every machine.

Integer arithmetic depends on the instruction set, so a folder that is right on one CPU can be wrong on another. The
vectors in 32 bits cannot tell: an int8 encoder differs from them everywhere.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import equivalence
from pg_semantic.encoders.base import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST_COSINE = 0.99
"""What an encoder's vectors need to those recorded with its folder.

CPUs round differently: .999 was seen between AVX2, AVX-512 and VNNI. Products that overflow were seen to give .69.
"""


def save(transformer: "SentenceTransformer", at: Path) -> None:
    """Writes the vectors of the self-check's texts and queries, with the texts themselves."""
    np.savez(
        at,
        texts=np.array(equivalence.TEXTS),
        queries=np.array(equivalence.QUERIES),
        documents_vectors=_one_by_one(transformer, equivalence.TEXTS, task="document"),
        queries_vectors=_one_by_one(transformer, equivalence.QUERIES, task="query"),
    )


def require(transformer: "SentenceTransformer", at: Path) -> None:
    """Compares an encoder's vectors with those recorded in ``at``.

    Raises:
        errors.EncoderError: The file is missing or damaged, or a vector differs by more than rounding.
    """
    least = min(
        float(equivalence.cosines(found, expected[:, : found.shape[1]]).min())  # fewer dimensions may be asked for
        for task, texts, expected in _read(at)
        for found in [_one_by_one(transformer, texts, task=task)]
    )
    if not least >= LEAST_COSINE:
        raise errors.EncoderError(
            f"on this CPU its vectors differ from those that were recorded when it was quantised (cosine {least:.3f}, "
            f"{LEAST_COSINE} is needed): they would not fit an index made elsewhere. Quantise the encoder again with "
            "this version, into a new folder, or use the encoder in 32 bits"
        )


def _read(at: Path) -> list[tuple[str, list[str], Vectors]]:
    try:
        with at.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = [
                ("document", file["texts"].tolist(), np.asarray(file["documents_vectors"], np.float32)),
                ("query", file["queries"].tolist(), np.asarray(file["queries_vectors"], np.float32)),
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        trouble = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        raise errors.EncoderError(
            f"its recorded vectors cannot be compared, since {at} {trouble}: copy the whole folder again, or quantise "
            "the encoder again"
        ) from error
    if not all(texts and len(texts) == len(vectors) for _, texts, vectors in found):
        raise errors.EncoderError(f"its recorded vectors cannot be compared, since {at} is incomplete")
    return found


def _one_by_one(transformer: "SentenceTransformer", texts: Sequence[str], *, task: str) -> Vectors:
    """Vectors of texts without a prompt, which may be declared otherwise, and each read alone.

    In a batch, rounding depends on the texts next to it.
    """
    found = transformer.encode(list(texts), prompt="", task=task, batch_size=1, show_progress_bar=False)
    return np.asarray(found, np.float32)
