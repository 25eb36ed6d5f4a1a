"""Estimates how many texts can be encoded at once in training: `mini_batch`."""

import os
from typing import TYPE_CHECKING

from pg_semantic.encoders.local import backends

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PER_TOKEN = 200
"""Bytes for each token, layer and number of its hidden state, that the gradients need.

Measured for all-MiniLM-L6-v2 in 32 bits: 0.4 MB per token, with 6 layers of width 384.
"""
_SHARE = 0.5  # of the memory


def mini_batch(trained: "SentenceTransformer", *, batch: int, columns: int, tokens: int) -> int | None:
    """Returns how many texts to encode at once on a CPU, where memory that runs out ends the process.

    It depends on the memory of the machine and not on what is free, so that training can be repeated.

    Args:
        trained: The encoder.
        batch: Examples per step.
        columns: Texts per example.
        tokens: The length of the longest texts.

    Returns:
        A power of 2 below ``batch``, or None if the whole batch fits, or if the operating system doesn't say how much
        memory there is.
    """
    total = _total()
    per_text = tokens * max(
        (_per_token(module.model.config) for module in backends.transformers_of(trained)), default=0
    )
    if total is None or per_text * batch * columns <= _SHARE * total:
        return None
    fits = int(_SHARE * total / per_text)
    return min(1 << max(0, fits.bit_length() - 1), max(1, batch // 2))


def _per_token(config: object) -> int:
    width, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
    return _PER_TOKEN * (width or 0) * (layers or 0)


def _total() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
