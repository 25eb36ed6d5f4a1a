"""Estimates how many texts can be encoded at once in training: `texts_at_once`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic.encoders.local import backends

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PER_TOKEN = 200
"""Bytes for each token, layer and number of its hidden state, that the gradients need.

Measured for all-MiniLM-L6-v2 in 32 bits: 0.4 MB per token, with 6 layers of width 384.
"""
_SHARE = 0.5  # of the memory

_ROOT = Path("/")
_GROUPS = "proc/self/cgroup"
_HIERARCHIES = {  # the names of a hierarchy's controllers: where it is mounted, and the file with the limit
    "": ("sys/fs/cgroup", "memory.max"),  # version 2
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),  # version 1
}


def texts_at_once(trained: "SentenceTransformer", *, tokens: int) -> int | None:
    """Returns how many texts can be encoded at once on a CPU, where memory that runs out ends the process.

    It depends on the memory of the machine, or on what a container may use of it, and not on what is free, so that
    training can be repeated.

    Args:
        trained: The encoder.
        tokens: The length of the longest texts.

    Returns:
        1 or more; None if nothing is known about the encoder or the memory.
    """
    total = _total()
    per_text = tokens * max(
        (_per_token(module.model.config) for module in backends.transformers_of(trained)), default=0
    )
    return None if total is None or not per_text else max(1, int(_SHARE * total / per_text))


def mini_batch(trained: "SentenceTransformer", *, batch: int, columns: int, tokens: int) -> int | None:
    """Returns how many texts of a batch to encode at once.

    Args:
        trained: The encoder.
        batch: Examples per step.
        columns: Texts per example.
        tokens: The length of the longest texts.

    Returns:
        A power of 2 below ``batch``, or None if the whole batch fits, or if nothing is known.
    """
    fits = texts_at_once(trained, tokens=tokens)
    if fits is None or batch * columns <= fits:
        return None
    return min(1 << (fits.bit_length() - 1), max(1, batch // 2))


def limit_of_group(root: Path = _ROOT) -> int | None:
    """Returns the lowest memory limit of this process's control groups in bytes; None if there is none.

    A container has one. The limit of a group holds for the groups in it, so all of them are read, up to the root of the
    hierarchy. In a container, this root is the container's own group, and the path may be one that only exists outside.

    Args:
        root: Where the file system begins.
    """
    limits = [int(text) for text in _limits(root) if text.isdecimal()]
    return min(limits, default=None)


def _limits(root: Path) -> Iterator[str]:
    """Yields the contents of the files with limits; ``max`` means none."""
    for line in _text(root / _GROUPS).splitlines():
        _, controllers, group = line.split(":", 2)
        names = [name for name in controllers.split(",") if name in _HIERARCHIES]
        for mount, file in (_HIERARCHIES[name] for name in names):
            inside = Path(group.lstrip("/"))
            for part in (inside, *inside.parents):
                yield _text(root / mount / part / file).strip()


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _per_token(config: object) -> int:
    width, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
    return _PER_TOKEN * (width or 0) * (layers or 0)


def _total() -> int | None:
    """Returns the memory that this process may use: that of the machine, or the limit of a container."""
    known = [one for one in (_machine(), limit_of_group()) if one is not None]
    return min(known, default=None)


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
