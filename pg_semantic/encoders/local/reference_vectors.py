"""Records the vectors of an int8 encoder when it is quantized, and compares them at each load.

Integer arithmetic depends on the instruction set, so a folder that is right on one CPU can be wrong on another. A
comparison with the 32-bit vectors can't detect that, because an int8 encoder differs from them everywhere.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import self_check
from pg_semantic.encoders.base import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST_COSINE = 0.99
"""Lowest accepted cosine to the vectors recorded in an encoder's folder.

CPUs round differently: the cosine was .999 between AVX2, AVX-512 and VNNI. When products overflowed, it was .69.
"""


def save(transformer: "SentenceTransformer", at: Path) -> None:
    """Writes the self-check's texts and queries with their vectors to the file ``at``."""
    np.savez(
        at,
        texts=np.array(self_check.TEXTS),
        queries=np.array(self_check.QUERIES),
        documents_vectors=_one_by_one(transformer, self_check.TEXTS, task="document"),
        queries_vectors=_one_by_one(transformer, self_check.QUERIES, task="query"),
    )


def require(transformer: "SentenceTransformer", at: Path) -> None:
    """Checks an encoder's vectors against those recorded in the file ``at``.

    Raises:
        errors.EncoderError: The file is missing or damaged, or a vector differs by more than rounding.
    """
    least = min(
        float(self_check.cosines(found, expected[:, : found.shape[1]]).min())  # vectors may be truncated
        for task, texts, expected in _read(at)
        for found in [_one_by_one(transformer, texts, task=task)]
    )
    if not least >= LEAST_COSINE:
        raise errors.EncoderError(
            f"on this CPU, its vectors differ from those recorded when it was quantized (cosine {least:.3f}, minimum "
            f"{LEAST_COSINE}), so they would not fit an index built elsewhere. Quantize the encoder again with this "
            "version, into a new folder, or use the original encoder"
        )


def _read(at: Path) -> list[tuple[str, list[str], Vectors]]:
    try:
        with at.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = [
                ("document", file["texts"].tolist(), np.asarray(file["documents_vectors"], np.float32)),
                ("query", file["queries"].tolist(), np.asarray(file["queries_vectors"], np.float32)),
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        raise errors.EncoderError(
            f"its recorded vectors cannot be compared because {at} {problem}: copy the whole folder again, or quantize "
            "the encoder again"
        ) from error
    if not all(texts and len(texts) == len(vectors) for _, texts, vectors in found):
        raise errors.EncoderError(
            f"its recorded vectors cannot be compared because {at} is incomplete: quantize the encoder again"
        )
    return found


def _one_by_one(transformer: "SentenceTransformer", texts: Sequence[str], *, task: str) -> Vectors:
    """Encodes each text on its own, because rounding depends on the rest of the batch.

    Omits the prompt, because it can be declared differently.
    """
    found = transformer.encode(list(texts), prompt="", task=task, batch_size=1, show_progress_bar=False)
    return np.asarray(found, np.float32)
