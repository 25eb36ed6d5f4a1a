"""Writes CSV to a file that only its owner can read, whole or not at all: `write`."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pg_semantic.evaluation import input_lines, private_files


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a temporary file and renames it.

    Texts that begin like a formula get a quote in front, so that a spreadsheet doesn't run what a user has typed.

    Raises:
        errors.ConfigurationError: The path isn't that of a regular file, or cannot be written.
    """
    with private_files.opened(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([input_lines.cell(value) for value in row] for row in rows)
