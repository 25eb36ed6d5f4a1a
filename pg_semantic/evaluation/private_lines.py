"""Writes JSON Lines to a file that only its owner can read, whole or not at all: `write`."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pg_semantic import errors


def write(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Writes a temporary file and renames it.

    Raises:
        errors.ConfigurationError: The path isn't that of a regular file, or cannot be written.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # such as a device
        raise errors.ConfigurationError(f"{path} is not a regular file: choose another path.")
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as file:
            written = Path(file.name)
            try:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                file.close()
                written.replace(path)
            except BaseException:
                written.unlink()
                raise
    except OSError as error:
        raise errors.ConfigurationError(f"Cannot write {path}: {error.strerror or error}.") from None
