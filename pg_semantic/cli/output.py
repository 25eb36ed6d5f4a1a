"""Output of commands: tables and sentences for people, JSON for scripts.

Words are never broken, and neither are commands that a reader may copy. A table that is too wide becomes one block of
lines per record. The width is that of the terminal; without one, it is ``COLUMNS``, or 80.
"""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

console = Console(highlight=False, emoji=False)  # `:a:` in a key or a message must not become an emoji

# What is never broken: a word, text in backticks, or a pg-semantic command up to the end of its sentence.
_WORD = re.compile(r"(?:`[^`]*`|\bpg-semantic [^;`]*|\S)+")
_PROSE_WIDTH = 40  # least width of a last column that contains sentences
_UNBOUNDED = 100_000


def say(text: str, *, to: Console | None = None) -> None:
    """Prints sentences for people. On a terminal, wraps lines between words, and never within a command.

    Args:
        text: Rich markup: square brackets are tags. Pass other text through `escaped`.
        to: Where to print. Default: standard output.
    """
    target = to or console
    styled = Text.from_markup(text, emoji=False)
    for line in _wrapped(styled, target.width) if target.is_terminal else [styled]:
        target.print(line, soft_wrap=True)


def verbatim(text: str) -> None:
    """Prints text for copying: on one line, with no markup."""
    console.print(Text(text), soft_wrap=True)


def record(fields: Iterable[tuple[str, object]], *, indent: int = 0) -> None:
    """Prints one name and value per line. Long values continue on the next line, indented."""
    cells = [(name, _cell(value)) for name, value in fields]
    label = max((cell_len(name) for name, _ in cells), default=0)
    for name, cell in cells:
        lines = list(_wrapped(Text(cell), max(console.width - indent - label - 2, _PROSE_WIDTH))) or [Text()]
        for number, line in enumerate(lines):
            margin = Text(" " * indent + (name if number == 0 else "").ljust(label), style="bold")
            console.print(Text.assemble(margin, "  ", line), soft_wrap=True)


def escaped(text: object) -> str:
    """Returns text for `say`, with its square brackets escaped."""
    return escape(str(text))


def counted(count: int, noun: str, *, plural: str | None = None) -> str:
    """Returns a number with its noun, such as "1 row" or "2 rows"; ``plural`` if it isn't the noun with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def one_line(text: str, *, width: int) -> str:
    """Returns the beginning of a text on one line, ``width`` characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def as_json(value: "DataclassInstance | dict[str, Any] | Sequence[Any]") -> None:
    """Prints JSON on standard output, on one line. Dataclasses become objects, and numbers that aren't finite null."""
    line = json.dumps(_finite(json.loads(json.dumps(value, default=_plain))), ensure_ascii=False)
    sys.stdout.write(line + "\n")  # in one write, because several workers share the pipe
    sys.stdout.flush()


NO_INDEXES = "This database has no semantic index: create one with `pg-semantic index create`."


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, empty: str = "(no rows)"
) -> None:
    """Prints a table, or one record per row if a table would be too wide.

    Args:
        columns: The column titles.
        rows: The cells, printed as plain text. None becomes ``-``. Columns of numbers are right-aligned.
        title: A line above the table.
        empty: What to print if there are no rows, as for `say`.
    """
    rows = [list(row) for row in rows]
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    if not rows:
        say(empty)
        return
    grid = _grid(columns, rows)
    if grid is not None:
        console.print(grid)
        return
    for number, row in enumerate(rows):
        if number:
            console.print()
        record(zip(columns, row, strict=True))


def _grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table | None:
    """Returns the rows as a table, or None if it is too wide. Only sentences in the last column are wrapped."""
    last = len(columns) - 1
    prose = any(" " in _cell(row[last]) for row in rows)
    words = [cell_len(word) for row in rows for word in _cell(row[last]).split()]
    grid = Table(header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in rows)
        wraps = prose and number == last
        least = max(words, default=0) if wraps else None
        grid.add_column(name, justify="right" if numeric else "left", no_wrap=not wraps, min_width=least)
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row))
    unbounded = console.options.update(max_width=_UNBOUNDED)
    natural = console.measure(grid, options=unbounded).maximum
    if prose:
        widest = max(cell_len(_cell(row[last])) for row in rows)
        natural -= max(0, widest - max(_PROSE_WIDTH, *words, cell_len(columns[last])))
    return grid if natural <= console.width else None


def _wrapped(text: Text, width: int) -> Iterator[Text]:
    """Yields the lines of a text, broken between words."""
    for line in text.split("\n", allow_blank=True):
        offsets = [0]
        for word in _WORD.finditer(line.plain):
            if word.start() > offsets[-1] and cell_len(line.plain[offsets[-1] : word.end()]) > width:
                offsets.append(word.start())
        for part in line.divide(offsets[1:]):
            part.rstrip()
            yield part


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
