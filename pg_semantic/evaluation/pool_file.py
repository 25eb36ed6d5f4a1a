"""The CSV file of results to be judged: `write`, and whether it may replace a file."""

from collections.abc import Sequence
from pathlib import Path

from pg_semantic import errors
from pg_semantic.evaluation import input_lines, private_csv

_COLUMNS = ["query", "key", "grade"]


def require_replaceable(path: Path) -> None:
    """Refuses an existing file unless it is a pool in which no grade is filled in.

    Raises:
        errors.ConfigurationError: The file has grades or something else, or cannot be read.
    """
    if not path.exists():
        return
    if not (path.is_file() and _is_unjudged(path)):
        raise errors.ConfigurationError(
            f"{path} exists, and isn't a list of results without grades: choose another path, so that nothing is lost."
        )


def _is_unjudged(path: Path) -> bool:
    try:
        with input_lines.opened(path) as file:
            records = input_lines.table(file, delimiter=",")
            _, header = next(records, (1, _COLUMNS))
            return header == _COLUMNS and not any("".join(record[2:]).strip() for _, record in records)
    except errors.ConfigurationError:  # it is no text, or no CSV
        return False


def write(path: Path, pool: Sequence[tuple[str, str]]) -> None:
    """Writes pairs of a query and a key, with an empty grade.

    Raises:
        errors.ConfigurationError: The file cannot be written, or what it has would be lost.
    """
    require_replaceable(path)
    private_csv.write(path, _COLUMNS, [(query, key, "") for query, key in pool])
