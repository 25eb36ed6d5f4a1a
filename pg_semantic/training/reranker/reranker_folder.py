"""Writes a trained reranker as a sentence-transformers folder, whole or not at all: `write`.

Like the folder of an encoder, it has no model card, which would quote texts of rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic import errors, rerankers
from pg_semantic.encoders import self_check
from pg_semantic.training import folder
from pg_semantic.training.reranker import fit

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from pg_semantic.settings import Settings

_TOLERANCE = 1e-5


def write(target: Path, made: "CrossEncoder", *, record: Mapping[str, Any], settings: "Settings") -> None:
    """Writes a reranker to a folder next to the target, checks it, and renames it.

    Args:
        target: A folder that doesn't exist or is empty.
        made: The reranker.
        record: What to write to ``training.json``. Must not contain texts of queries or rows.
        settings: The settings to load it with.

    Raises:
        errors.ConfigurationError: The folder cannot be written, or isn't empty any more.
        errors.EncoderError: What was written has other scores than the reranker in memory.
    """
    with folder.new(target, what="reranker") as written:
        made.save_pretrained(str(written), create_model_card=False, safe_serialization=True)
        folder.write_record(written, record)
        loaded, expected = rerankers.load(str(written), settings=settings), fit.reranker(made)
        for query in self_check.QUERIES:
            found, wanted = (one.score(query, self_check.TEXTS) for one in (loaded, expected))
            if not np.allclose(found, wanted, atol=_TOLERANCE):
                raise errors.EncoderError(
                    "The trained reranker was not written, because it has other scores once it is loaded again: its "
                    "modules cannot be saved by sentence-transformers."
                )
