"""Writes JSON Lines to a file that only its owner can read, whole or not at all: `write`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pg_semantic.evaluation import private_files


def write(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Writes a temporary file and renames it.

    Raises:
        errors.ConfigurationError: The path isn't that of a regular file, or cannot be written.
    """
    with private_files.opened(path) as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
