"""Checks that the extra ``train`` is installed: `require`."""

import importlib.util

from pg_semantic import errors

_LIBRARIES = ("sentence_transformers", "accelerate", "datasets")


def require(*others: str) -> None:
    """Checks that the libraries for training are installed, without importing them.

    Args:
        others: Other libraries that are needed, such as ``peft``.

    Raises:
        errors.MissingExtra: One of them isn't installed.
    """
    missing = [name for name in (*_LIBRARIES, *others) if importlib.util.find_spec(name) is None]
    if missing:
        raise errors.MissingExtra(
            "Training weights needs an extra: pip install 'pg-semantic-index[train]'. Not installed: "
            f"{', '.join(missing)}."
        )
