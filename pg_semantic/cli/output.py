"""How commands print: tables for a person, JSON for a script."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

console = Console(highlight=False)


def say(text: str) -> None:
    """A line for a person; square brackets are markup."""
    console.print(text)


def escaped(text: object) -> str:
    """Text for `say` whose square brackets are brackets."""
    return escape(str(text))


def one_line(text: str, *, width: int) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def as_json(value: "DataclassInstance | dict[str, Any] | Sequence[Any]") -> None:
    """JSON on standard output; dataclasses become objects."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")  # one write: workers share the pipe
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table; cells are plain text, and numbers stand to the right."""
    rows = [list(row) for row in rows]
    if title:
        console.print(Text(title, style="bold"))
    grid = Table(header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row))
    console.print(grid)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
