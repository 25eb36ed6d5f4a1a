"""Writes files that only their owner can read, whole or not at all: `opened`."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pg_semantic import errors


def require_writable(path: Path) -> None:
    """Checks that a file can be written, before the work that makes its lines.

    Raises:
        errors.ConfigurationError: The path isn't that of a regular file, or cannot be written.
    """
    with _described(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix="."):
            pass


@contextlib.contextmanager
def opened(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """Yields a temporary file, and renames it to ``path`` unless an exception is raised.

    Args:
        path: The file to write. An existing one is replaced.
        newline: As in the built-in `open`.

    Raises:
        errors.ConfigurationError: The path isn't that of a regular file, or cannot be written.
    """
    with (
        _described(path),
        tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline=newline, dir=path.parent, prefix=".", delete=False
        ) as file,
    ):
        written = Path(file.name)
        try:
            yield file
            file.close()
            written.replace(path)
        except BaseException:
            written.unlink()
            raise


@contextlib.contextmanager
def _described(path: Path) -> Iterator[None]:
    """Refuses devices, and says which file cannot be written."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # such as a device
        raise errors.ConfigurationError(f"{path} is not a regular file: choose another path.")
    try:
        yield
    except OSError as error:
        raise errors.ConfigurationError(f"Cannot write {path}: {error.strerror or error}.") from None
